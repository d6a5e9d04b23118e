"""Reading DICOM SEG objects (PS3.3 A.51): binary, fractional and label-map segmentations."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from stagetransfer.ct.dicom_file import read_checked
from stagetransfer.ct.input_problems import first_line
from stagetransfer.ct.volume import Floats


@dataclass(frozen=True)
class Frame:
    """One plane of segment numbers (H, W), 0 for none, and its position in mm in DICOM's axes."""

    values: NDArray[np.int64]
    origin: Floats
    right: Floats
    down: Floats
    spacing: tuple[float, float]


@dataclass(frozen=True)
class Segmentation:
    """A SEG file: the UIDs of the series it segments, the label of each segment, the frames."""

    series: frozenset[str]
    labels: dict[int, str]
    frames: tuple[Frame, ...]


def read_segmentation(path: Path) -> Segmentation:
    """Read a SEG file. In a fractional one, values of at least one half belong to the segment.

    Any failure is a ValueError, whose message does not contain the name of the file.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return _segmentation(read_checked(path, force=True))
    except Exception as error:  # pydicom and its plugins raise many types
        raise ValueError(f"not readable as DICOM SEG ({first_line(error)})") from error


def _segmentation(data: Dataset) -> Segmentation:
    if data.get("Modality") != "SEG":
        raise ValueError("its modality is not SEG")
    pixels = np.asarray(data.pixel_array)
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    shared = data.SharedFunctionalGroupsSequence[0]
    groups = data.PerFrameFunctionalGroupsSequence
    if len(groups) != len(pixels):
        raise ValueError(f"{len(pixels)} frames of pixels, but {len(groups)} in the header")
    kind = str(data.SegmentationType)
    # In a fractional segmentation, the maximum value means 1.
    half = int(data.MaximumFractionalValue) / 2 if kind == "FRACTIONAL" else 1
    frames = []
    for plane, own in zip(pixels, groups, strict=True):
        values = plane.astype(np.int64)
        if kind != "LABELMAP":
            segment = _group(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber
            values = np.where(plane >= half, int(segment), 0)
        cosines = _floats(_group(own, shared, "PlaneOrientationSequence").ImageOrientationPatient)
        origin = _floats(_group(own, shared, "PlanePositionSequence").ImagePositionPatient)
        row, column = _floats(_group(own, shared, "PixelMeasuresSequence").PixelSpacing)
        frames.append(Frame(values, origin, cosines[:3], cosines[3:], (float(row), float(column))))
    references = data.get("ReferencedSeriesSequence") or []
    return Segmentation(
        frozenset(str(one.SeriesInstanceUID) for one in references),
        {
            int(one.SegmentNumber): str(one.SegmentLabel).strip()
            for one in data.SegmentSequence
            if int(one.SegmentNumber)  # 0 is the background of a label map
        },
        tuple(frames),
    )


def _group(own: Dataset, shared: Dataset, name: str) -> Any:
    """Return a functional group, which is stored with its frame or once for all frames."""
    return (own.get(name) or shared[name].value)[0]


def _floats(values: Any) -> Floats:
    return np.array([float(value) for value in values])
