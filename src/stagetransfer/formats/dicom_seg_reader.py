"""Reading DICOM SEG objects (PS3.3 A.51): binary, fractional and label-map segmentations."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels

from stagetransfer.errors import first_line
from stagetransfer.formats.dicom_file import frame_header, read_checked
from stagetransfer.formats.unusable import Floats, Unreadable


@dataclass(frozen=True)
class Frame:
    """One plane: (H, W) segment numbers, or (H, W / 8) packed bits of the only `segment`.

    `affine` (4, 4) leads from x, y and the distance in mm along the normal to DICOM's axes in mm.
    """

    stored: NDArray[Any]
    segment: np.uint16 | None
    width: int
    affine: Floats

    @property
    def values(self) -> NDArray[Any]:
        """(H, W) segment numbers, 0 for none."""
        if self.segment is None:
            return self.stored
        return np.unpackbits(self.stored, axis=1, count=self.width) * self.segment


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
    kind = str(data.SegmentationType)
    # In a fractional segmentation, the maximum value means 1.
    half = int(data.MaximumFractionalValue) / 2 if kind == "FRACTIONAL" else 1
    planes = iter_pixels(data)  # one by one, because 3,000 unpacked ones would take a gigabyte
    pixels = [one if kind == "LABELMAP" else np.packbits(one >= half, axis=1) for one in planes]
    groups = len(data.PerFrameFunctionalGroupsSequence)
    if groups != len(pixels):
        raise ValueError(f"{len(pixels)} frames of pixels, but {groups} in the header")
    frames = []
    for number, plane in enumerate(pixels):
        header = frame_header(data, number)
        segment = None if kind == "LABELMAP" else np.uint16(header.ReferencedSegmentNumber)
        right, down = np.split(np.array(header.ImageOrientationPatient, dtype=float), 2)
        row, column = map(float, header.PixelSpacing)
        affine = np.eye(4)
        affine[:3, :3] = np.column_stack([right * column, down * row, np.cross(right, down)])
        affine[:3, 3] = np.array(header.ImagePositionPatient, dtype=float)
        frames.append(Frame(plane, segment, int(data.Columns), affine))
    series = data.get("ReferencedSeriesSequence") or ()
    slices = (one for of in series for one in of.get("ReferencedInstanceSequence") or ())
    uids = [one.SeriesInstanceUID for one in series]
    uids += [one.ReferencedSOPInstanceUID for one in slices]
    # Segment 0 is the background of a label map.
    segments = [one for one in data.SegmentSequence if int(one.SegmentNumber)]
    labels = {int(one.SegmentNumber): str(one.SegmentLabel).strip() for one in segments}
    return Segmentation(frozenset(map(str, uids)), labels, tuple(frames))
