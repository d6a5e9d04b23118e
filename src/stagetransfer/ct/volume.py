"""A CT series as slices in Hounsfield units, with spacing, position and names.

    for series in find_volumes(Path("scans"), problems).volumes:
        hu = series.plane(12)      # (H, W) float64, Hounsfield units

Slices look as DICOM shows them: rows run to the patient's back, columns to the left in an axial
slice of a supine patient; slice 0 is the lowest along the normal of the slices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class UnreadableSlice(Exception):
    """The pixels of one slice can't be decoded; the message says why, without the file's name."""


@dataclass(frozen=True)
class Geometry:
    """Where the slices lie in the patient, in mm, DICOM's axes (left, back, head).

    Attributes:
        corners: (Z, 3) centres of the pixels at row 0, column 0, by slice.
        right: (3,) unit vector along a row, to higher columns.
        down: (3,) unit vector along a column, to higher rows.
        gap: the usual distance of two slices; inf for a single slice.
    """

    corners: Floats
    right: Floats
    down: Floats
    gap: float

    @property
    def heights(self) -> Floats:
        """(Z,) positions along the normal, ascending."""
        return np.asarray(self.corners @ np.cross(self.right, self.down))

    def slice_at(self, heights: Floats) -> NDArray[np.int64]:
        """The nearest slice to each height along the normal, -1 where none is within half a gap."""
        own = self.heights
        nearest = np.searchsorted((own[1:] + own[:-1]) / 2, heights)
        # Half a gap, or 1 mm for a lone slice; the thousandth is for rounded headers.
        reach = (self.gap if np.isfinite(self.gap) else 2.0) * 0.501
        return np.where(np.abs(heights - own[nearest]) <= reach, nearest, -1)


@dataclass(frozen=True)
class Volume:
    """One series.

    Attributes:
        where: its folder or file below the input, for messages only (it may hold a name).
        patient: what tells patients apart, from the header or folder; secret.
        identity: what tells series apart; secret.
        names: all that an annotation may call it: UID, series number, folder, file.
        files: the file of each slice, below the input (one for all in NIfTI).
        instances: DICOM's instance numbers, None where there are none.
        sops: DICOM's SOP instance UIDs, "" where there are none.
        shape: (H, W) of the slices.
        spacing: (row, column) distance of the pixels in mm, None if unknown.
        geometry: positions, None if unknown.
        whole: False if slices are missing or may be, so that slice numbers aren't to be trusted.
        read: the stored slice by its number, as Hounsfield units; raises `UnreadableSlice`.
    """

    where: str
    patient: str
    identity: str
    names: frozenset[str]
    files: tuple[str, ...]
    instances: tuple[int | None, ...]
    sops: tuple[str, ...]
    shape: tuple[int, int]
    spacing: tuple[float, float] | None
    geometry: Geometry | None
    whole: bool
    read: Callable[[int], Floats]

    def __len__(self) -> int:
        return len(self.files)

    def plane(self, index: int) -> Floats:
        """(H, W) float64: slice `index` in Hounsfield units.

        Raises:
            UnreadableSlice: its pixels can't be decoded.
        """
        return self.read(index)

    @property
    def is_square(self) -> bool:
        """Whether the pixels are as wide as high (to 0.1 %), or of unknown shape."""
        return self.spacing is None or abs(self.spacing[0] / self.spacing[1] - 1) <= 1e-3


def missing_slices(heights: Floats) -> tuple[float, int]:
    """The usual gap of ascending positions, and how many slices larger gaps leave out.

    A gap is larger beyond one and a half times the median (of an even number the lower one):
    slices that are unevenly spaced by less occur in real series, a missing one doubles the gap.
    """
    if len(heights) < 2:
        return float("inf"), 0
    gaps = np.diff(heights)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    wide = gaps[gaps > 1.5 * usual]
    return usual, int((np.rint(wide / usual) - 1).sum())
