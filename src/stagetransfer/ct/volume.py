"""A CT series as slices in Hounsfield units (HU), with pixel spacing, positions and names.

    volumes, _ = find_series(Path("scans"), problems)
    for volume in volumes:
        hu = volume.read_slice(12)      # (H, W) float64, HU

Slices are oriented as in DICOM: in an axial slice of a supine patient, rows run to the patient's
back and columns to the patient's left. Slice 0 is the lowest along the normal of the slices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stagetransfer.formats.unusable import Unusable

SMALLEST_PIXEL, LARGEST_PIXEL = 0.01, 20.0  # mm
Floats = NDArray[np.float64]
# (row, column) distance of pixel centres in mm; None if unknown
Spacing = tuple[float, float] | None


@dataclass(frozen=True)
class Geometry:
    """The position of the slices in the patient, in mm along DICOM's axes (left, back, head)."""

    origins: Floats  # (Z, 3) centres of the pixels at row 0, column 0 of each slice
    right: Floats  # (3,) unit vector along a row, towards higher columns
    down: Floats  # (3,) unit vector along a column, towards higher rows
    gap: float  # the usual distance between two slices; inf for a single slice

    @property
    def normal(self) -> Floats:
        """(3,) unit vector perpendicular to the slices."""
        return np.cross(self.right, self.down)

    @property
    def orientation(self) -> str:
        """Where columns, rows and slices run: LPH is to the left, the back (posterior), the head.

        An angle in degrees is added if the slices are tilted by more than one.
        """
        axes = (self.right, self.down, self.normal)
        places = [(int(np.abs(axis).argmax()), axis) for axis in axes]
        letters = "".join("RAFLPH"[k + 3 * bool(axis[k] > 0)] for k, axis in places)
        tilt = np.degrees(np.arccos(min(1.0, np.abs(self.normal).max())))
        return letters if tilt <= 1 else f"{letters}, tilted {tilt:.0f}"

    @property
    def depth(self) -> float:
        """The thickness of a slice in mm: the gap, or 2 mm for a single slice."""
        return self.gap if np.isfinite(self.gap) else 2.0

    @property
    def heights(self) -> Floats:
        """(Z,) positions along the normal in mm, ascending."""
        return np.asarray(self.origins @ self.normal)

    def nearest_slice(self, heights: Floats, reach: float = 0.0) -> NDArray[np.int64]:
        """Return the nearest slice to each height; -1 if none is within half a slice or `reach`."""
        own = self.heights
        nearest = np.searchsorted((own[1:] + own[:-1]) / 2, heights)
        # 0.501 instead of 0.5, because headers hold rounded positions.
        near = np.abs(heights - own[nearest]) <= max(0.501 * self.depth, reach)
        return np.where(near, nearest, -1)


@dataclass(frozen=True)
class Volume:
    """One series. `where`, `patient` and `identity` may contain a name, and are confidential."""

    where: str  # its folder or file below the input, for messages
    patient: str  # by the header or the folder
    identity: str  # of the series
    names: frozenset[str]  # what an annotation may call it: UID, series number, folder, file
    files: tuple[str, ...]  # of each slice, below the input (the same one for all in NIfTI)
    shape: tuple[int, int]  # (H, W) of the slices
    spacing: Spacing
    geometry: Geometry | None  # None if unknown
    read_slice: Callable[[int], Floats]  # a slice (H, W) in HU by its number; raises `Unreadable`
    instances: tuple[int | None, ...] = ()  # DICOM's numbers, None if missing; or no DICOM
    sop_uids: tuple[str, ...] = ()  # DICOM's SOPInstanceUID of each slice; empty for others
    complete: bool = True  # False if slices may be missing, so that slice numbers are uncertain

    def __len__(self) -> int:
        return len(self.files)

    def in_pixels(self, points: Floats, slices: int | NDArray[np.int64]) -> Floats:
        """Convert points (N, 3) in mm to x and y (N, 2) in pixels of these slices."""
        assert self.geometry is not None
        assert self.spacing is not None
        shift = points - self.geometry.origins[slices]
        axes = shift @ self.geometry.right, shift @ self.geometry.down
        return np.asarray(np.stack(axes, axis=1) / self.spacing[::-1])

    def holds(self, points: Floats) -> bool:
        """Whether x and y (N, 2) in pixels lie on a slice, whose pixels end half a unit further."""
        height, width = self.shape
        return bool((points >= -0.5).all() and (points <= (width - 0.5, height - 0.5)).all())


def check_slices(spacing: tuple[float, float], normal: Floats) -> None:
    """Raise Unusable unless slices have pixels of a possible size in mm and are nearly axial."""
    if not SMALLEST_PIXEL <= min(spacing) <= max(spacing) <= LARGEST_PIXEL:
        row, column = spacing
        text = (
            f"pixels of {row:.3g} x {column:.3g} mm, which no CT has "
            f"({SMALLEST_PIXEL:g} to {LARGEST_PIXEL:g} mm). Correct the size, or its unit, in the "
            "header"
        )
        raise Unusable("series of impossible pixel sizes", text)
    if abs(normal[2]) < 0.8:
        raise Unusable("series that are not axial", "its slices are not axial")


def missing_slices(heights: Floats, numbers: Sequence[int | None] = ()) -> tuple[float, int]:
    """Return the usual gap between ascending positions, and the number of missing slices.

    Slices are missing where a gap is more than 1.5 times the median gap (the lower median of an
    even number). Real series have smaller irregularities; one missing slice doubles a gap. Between
    successive instance `numbers` nothing is missing: the series has intervals of several sizes.
    """
    if len(heights) < 2:
        return float("inf"), 0
    gaps = np.diff(heights)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    steps = [None not in (a, b) and abs(a - b) == 1 for a, b in pairwise(numbers)]  # type: ignore[operator]
    wide = gaps[(gaps > 1.5 * usual) & ~np.array(steps or [False] * len(gaps))]
    return usual, int((np.rint(wide / usual) - 1).sum())
