"""Reading DICOM RT structure sets (PS3.3 A.19): outlines of regions in the patient."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from stagetransfer.errors import first_line
from stagetransfer.formats.dicom_file import read_checked
from stagetransfer.formats.unusable import Floats, Unreadable

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class Contour:
    """One outline: points (N, 3) in mm along DICOM's axes, of a region and maybe of a slice."""

    region: int
    points: Floats
    sop_uid: str
    closed: bool  # False for a point or an open line


@dataclass(frozen=True)
class StructureSet:
    """The UIDs of the series and slices it refers to, the name of each region, the outlines."""

    uids: frozenset[str]
    labels: dict[int, str]
    contours: tuple[Contour, ...]


def is_structure_set(path: Path) -> bool:
    """Whether the modality of a DICOM file is RTSTRUCT."""
    with suppress(Exception), warnings.catch_warnings(action="ignore"):
        data = read_checked(path, force=True, header_only=True)
        return bool(data.get("Modality") == "RTSTRUCT")
    return False


def read_structure_set(path: Path) -> StructureSet:
    """Read a structure set, or raise Unreadable."""
    try:
        with warnings.catch_warnings(action="ignore"):
            data = read_checked(path, force=True)
            contours = tuple(_contours(data))
            series = [
                str(series.SeriesInstanceUID)
                for frame in data.get("ReferencedFrameOfReferenceSequence") or ()
                for study in frame.get("RTReferencedStudySequence") or ()
                for series in study.get("RTReferencedSeriesSequence") or ()
            ]
            return StructureSet(
                frozenset([*series, *(one.sop_uid for one in contours)]) - {""},
                {int(r.ROINumber): str(r.ROIName).strip() for r in data.StructureSetROISequence},
                contours,
            )
    except Exception as error:  # pydicom raises many types
        raise Unreadable(f"not readable as RTSTRUCT ({first_line(error)})") from error


def _contours(data: Dataset) -> Iterator[Contour]:
    for region in data.get("ROIContourSequence") or ():
        for one in region.get("ContourSequence") or ():
            points = np.array([float(value) for value in one.ContourData]).reshape(-1, 3)
            if not len(points) or not np.isfinite(points).all():
                raise ValueError("ContourData are not points")
            images = one.get("ContourImageSequence")
            sop_uid = str(images[0].ReferencedSOPInstanceUID) if images else ""
            closed = one.ContourGeometricType in _CLOSED and len(points) > 2
            yield Contour(int(region.ReferencedROINumber), points, sop_uid, closed)
