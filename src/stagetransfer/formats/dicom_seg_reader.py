"""Reading DICOM SEG objects (PS3.3 A.51): binary, fractional and label-map segmentations."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from stagetransfer.errors import first_line
from stagetransfer.formats.dicom_file import frame_header, read_checked
from stagetransfer.formats.unusable import Floats, Unreadable


@dataclass(frozen=True)
class Frame:
    """One plane of segment numbers (H, W), 0 for none.

    `affine` (4, 4) leads from x, y and the distance in mm along the normal to DICOM's axes in mm.
    """

    values: NDArray[np.int64]
    affine: Floats


@dataclass(frozen=True)
class Segmentation:
    """The UIDs of the series and slices it segments, the label of each segment, the frames."""

    uids: frozenset[str]
    labels: dict[int, str]
    frames: tuple[Frame, ...]


def read_segmentation(path: Path) -> Segmentation:
    """Read a SEG file, or raise Unreadable.

    In a fractional one, values of at least one half belong to the segment.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return _segmentation(read_checked(path, force=True))
    except Exception as error:  # pydicom and its plugins raise many types
        raise Unreadable(f"not readable as DICOM SEG ({first_line(error)})") from error


def _segmentation(data: Dataset) -> Segmentation:
    if data.get("Modality") != "SEG":
        raise ValueError("its modality is neither SEG nor RTSTRUCT")
    pixels = np.asarray(data.pixel_array)
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    groups = len(data.PerFrameFunctionalGroupsSequence)
    if groups != len(pixels):
        raise ValueError(f"{len(pixels)} frames of pixels, but {groups} in the header")
    kind = str(data.SegmentationType)
    # In a fractional segmentation, the maximum value means 1.
    half = int(data.MaximumFractionalValue) / 2 if kind == "FRACTIONAL" else 1
    frames = []
    for number, plane in enumerate(pixels):
        header = frame_header(data, number)
        values = plane.astype(np.int64)
        if kind != "LABELMAP":
            values = np.where(plane >= half, int(header.ReferencedSegmentNumber), 0)
        right, down = np.split(np.array(header.ImageOrientationPatient, dtype=float), 2)
        row, column = map(float, header.PixelSpacing)
        affine = np.eye(4)
        affine[:3, :3] = np.column_stack([right * column, down * row, np.cross(right, down)])
        affine[:3, 3] = np.array(header.ImagePositionPatient, dtype=float)
        frames.append(Frame(values, affine))
    series = data.get("ReferencedSeriesSequence") or ()
    slices = (one for of in series for one in of.get("ReferencedInstanceSequence") or ())
    uids = [one.SeriesInstanceUID for one in series]
    uids += [one.ReferencedSOPInstanceUID for one in slices]
    # Segment 0 is the background of a label map.
    segments = [one for one in data.SegmentSequence if int(one.SegmentNumber)]
    labels = {int(one.SegmentNumber): str(one.SegmentLabel).strip() for one in segments}
    return Segmentation(frozenset(map(str, uids)), labels, tuple(frames))
