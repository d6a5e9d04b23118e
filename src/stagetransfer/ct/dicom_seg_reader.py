"""DICOM SEG objects (PS3.3 A.51): binary, fractional and label-map segmentations."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from stagetransfer.ct.problems import reason
from stagetransfer.ct.volume import Floats


@dataclass(frozen=True)
class Frame:
    """One plane: (H, W) segment numbers, 0 for none, and its place in mm (DICOM's axes)."""

    values: NDArray[np.int64]
    corner: Floats
    right: Floats
    down: Floats
    spacing: tuple[float, float]


@dataclass(frozen=True)
class Segmentation:
    """A SEG file: the UIDs of the series it segments, each segment's label, its frames."""

    series: frozenset[str]
    labels: dict[int, str]
    frames: tuple[Frame, ...]


def read_segmentation(path: Path) -> Segmentation:
    """Reads a SEG whole; of a fractional one, values of one half and more count.

    Raises:
        ValueError: not a readable SEG; the message says why, without the file's name.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data: Dataset = dcmread(path, force=True)
            if data.get("Modality") != "SEG":
                raise ValueError("its modality is not SEG")
            return _segmentation(data)
    except Exception as error:  # pydicom and its plugins raise many types
        raise ValueError(f"not readable as DICOM SEG ({reason(error)})") from error


def _segmentation(data: Dataset) -> Segmentation:
    pixels = np.asarray(data.pixel_array)
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    shared = data.SharedFunctionalGroupsSequence[0]
    groups = data.PerFrameFunctionalGroupsSequence
    if len(groups) != len(pixels):
        raise ValueError(f"{len(pixels)} frames of pixels, {len(groups)} in the header")
    kind = str(data.SegmentationType)
    # Of a fractional segmentation the greatest value stands for 1.
    half = int(data.MaximumFractionalValue) / 2 if kind == "FRACTIONAL" else 1
    frames = []
    for plane, own in zip(pixels, groups, strict=True):
        values = plane.astype(np.int64)
        if kind != "LABELMAP":
            segment = _item(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber
            values = np.where(plane >= half, int(segment), 0)
        cosines = _floats(_item(own, shared, "PlaneOrientationSequence").ImageOrientationPatient)
        corner = _floats(_item(own, shared, "PlanePositionSequence").ImagePositionPatient)
        row, column = _floats(_item(own, shared, "PixelMeasuresSequence").PixelSpacing)
        frames.append(Frame(values, corner, cosines[:3], cosines[3:], (float(row), float(column))))
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


def _item(own: Dataset, shared: Dataset, name: str) -> Any:
    """A functional group stands with the frame or, for all frames at once, with the shared ones."""
    return (own.get(name) or shared[name].value)[0]


def _floats(values: Any) -> Floats:
    return np.array([float(value) for value in values])
