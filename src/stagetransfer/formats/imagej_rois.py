"""ROI files of ImageJ and Fiji: one .roi, or the .zip of the ROI manager."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stagetransfer.errors import require_extra
from stagetransfer.files import require_file
from stagetransfer.formats.unusable import Floats, Unreadable

SUFFIXES = (".roi", ".zip")
_MAX_BYTES = 2**24  # of one outline


@dataclass(frozen=True)
class ImagejRoi:
    """One ROI: its name and group, its slice in the stack from 1 (0: none), and its outlines.

    `rings` are polygons (N, 2) as x, y in pixels whose first centre is 0, 0, or points if `points`.
    """

    name: str
    group: int
    position: int
    rings: tuple[Floats, ...]
    points: bool


def read_rois(path: Path) -> list[ImagejRoi]:
    """Read all ROIs of a file, or raise Unreadable."""
    with require_extra("formats", path):
        import roifile
    try:
        found = [_roi(roifile, roifile.ImagejRoi.frombytes(data)) for data in _contents(path)]
    except Exception as error:  # roifile and zipfile raise many types on damaged bytes
        raise Unreadable("not readable as ROIs of ImageJ") from error
    if not found:
        raise Unreadable("holds no ROI of ImageJ")
    return found


def _contents(path: Path) -> Iterator[bytes]:
    require_file(path)
    if path.suffix.lower() == ".roi":
        yield path.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        for one in archive.infolist():
            if one.file_size > _MAX_BYTES:
                raise ValueError("too large")
            if one.filename.lower().endswith(".roi"):
                yield archive.read(one)


def _roi(roifile: Any, roi: Any) -> ImagejRoi:
    kinds = roifile.ROI_TYPE
    points = roi.roitype == kinds.POINT
    closed = (kinds.POLYGON, kinds.RECT, kinds.FREEHAND, kinds.TRACED)
    rings: list[Floats] = []
    if points or roi.composite or roi.roitype in closed:
        rings = [np.asarray(one, dtype=np.float64) for one in roi.coordinates(multi=True)]
    elif roi.roitype == kinds.OVAL:
        ends = np.array([[roi.left, roi.top], [roi.right, roi.bottom]], dtype=np.float64)
        angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        rings = [ends.mean(axis=0) + circle * np.diff(ends, axis=0) / 2]
    if not points:
        rings = [one for one in rings if len(one) > 2]
    # In ImageJ, the first pixel reaches from 0 to 1. A point without fractions names a pixel.
    shift = 0.0 if points and not roi.subpixelresolution else 0.5
    position = int(roi.position or roi.z_position)
    outlines = tuple(one - shift for one in rings)
    return ImagejRoi(roi.name.strip(), int(roi.group), position, outlines, points)
