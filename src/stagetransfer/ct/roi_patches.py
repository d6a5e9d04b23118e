"""ROI patches: where they lie on a slice, and their grey values.

    grey = round(255 * clip((HU - (level - width / 2)) / width, 0, 1))

The papers' ROIs have 32x32 pixels and are 16 to 20 mm wide (Suzuki et al. 2018, section 4.1).
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.ct.annotations import CroppedMask, Point, Polygon, Region
from stagetransfer.ct.volume import Floats, Spacing
from stagetransfer.errors import UserError
from stagetransfer.files import check_size

Mask = NDArray[np.bool_]
Corners = list[tuple[int, int]]


@dataclass(frozen=True)
class PatchSettings:
    """How patches are taken from a slice.

    Slices are resampled to the spacing. With 1 for `neighbours` (2.5D), the channels of a patch are
    the slice before, its own and the one after, as the series stores them; with 0, it is grey.
    """

    size: int = 32  # side of a patch in pixels
    level: float = -600.0  # centre of the window in HU that the grey values 0 to 255 span
    width: float = 1500.0  # of this window, in HU
    spacing: float | None = None  # side of a patch's pixel in mm; None: as stored
    place: Literal["grid", "centre"] = "grid"  # side by side, or one in each connected part
    coverage: float = 0.75  # smallest share of a patch that lies inside its region, in [0, 1]
    overlap: float = 0.0  # share of the side by which neighbours in the grid overlap, in [0, 1)
    neighbours: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        numbers = (self.level, self.width, self.spacing or 1.0, self.coverage, self.overlap)
        in_range = 0 < self.size < 10_000 and 0 <= self.coverage <= 1 and 0 <= self.overlap < 1
        in_range = in_range and self.neighbours in (0, 1)
        if not (in_range and min(numbers[1:3]) > 0 and np.isfinite(numbers).all()):
            raise ValueError(f"impossible settings of a patch: {self}")


@dataclass(frozen=True)
class Raster:
    """The pixel grid that patches are taken from: the slice's own, or one it is resampled to.

    `shape` is (H, W) of the slice; `scale` is the (row, column) side of a raster pixel in pixels of
    the slice.
    """

    shape: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def with_spacing(cls, shape: tuple[int, int], spacing: Spacing, target: float | None) -> Self:
        """Return the raster with pixels of `target` mm; the slice's own if a length is None."""
        if target is None or spacing is None:
            return cls(shape)
        raster = cls(shape, (target / spacing[0], target / spacing[1]))
        try:
            check_size(*raster.size[::-1])
        except OSError as error:
            raise UserError(
                f"--spacing, --field: with pixels of {target:g} mm, a slice has {error}. Give more"
            ) from error
        return raster

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the raster: the whole pixels that fit in the slice."""
        # The thousandth corrects sizes that are whole numbers except for rounding errors.
        rows, columns = (int(n / s + 1e-3) for n, s in zip(self.shape, self.scale, strict=True))
        return rows, columns

    def to_raster(self, xy: Floats) -> Floats:
        """Convert x and y (N, 2) from slice pixels to raster pixels; both grids start at -0.5."""
        return np.asarray((xy + 0.5) / self.scale[::-1] - 0.5)

    def to_slice(self, xy: Floats) -> Floats:
        """Convert x and y (N, 2) from raster pixels to slice pixels."""
        return np.asarray((xy + 0.5) * self.scale[::-1] - 0.5)

    def resample(self, plane: Floats) -> Floats:
        """Return a slice (H, W) at the raster's pixels, by linear interpolation."""
        if self.scale == (1.0, 1.0):
            return plane
        # Smoothed where pixels become larger, against aliasing, as scikit-image's `resize` does.
        sigma = [max(0.0, (s - 1) / 2) for s in self.scale]
        smooth = ndimage.gaussian_filter(plane, sigma, mode="nearest")
        return np.asarray(self._interpolate(smooth, order=1))

    def draw(self, shape: Polygon | CroppedMask) -> Mask:
        """Return (H, W) of the raster: the pixels whose centres lie in the polygon or mask.

        A centre on a border of a polygon is inside at the left and upper ends of the rows and
        columns, and outside at the others, so that two polygons with one border share no pixel. The
        direction in which it was drawn has no influence. Parts that it encircles twice are outside.
        """
        if isinstance(shape, CroppedMask):
            plane = np.zeros(self.shape, dtype=np.uint8)
            plane[shape.place] = shape.mask
            return (plane if self.scale == (1.0, 1.0) else self._interpolate(plane, order=0)) > 0
        vertices = self.to_raster(shape.vertices) - 1e-9  # rounding errors decide nothing
        rows, columns = self.size
        crossed = np.zeros((rows, columns + 1), dtype=np.int64)
        for start, end in zip(vertices, np.roll(vertices, 1, axis=0), strict=True):
            (x0, y0), (x1, y1) = sorted([start, end], key=lambda vertex: (vertex[1], vertex[0]))
            y = np.arange(max(np.ceil(y0), 0), min(np.ceil(y1), rows))
            x = x0 + (y - y0) * (x1 - x0) / max(y1 - y0, 1e-12)
            places = y.astype(int), np.clip(np.ceil(x), 0, columns).astype(int)
            np.add.at(crossed, places, 1)
        # A pixel is inside if the outline crosses its row an odd number of times before it.
        return np.asarray(crossed.cumsum(axis=1)[:, :-1] % 2, dtype=np.bool_)

    def _interpolate(self, plane: NDArray[Any], order: Literal[0, 1]) -> NDArray[Any]:
        scale = np.array(self.scale)
        start = scale / 2 - 0.5
        return ndimage.affine_transform(plane, scale, start, self.size, order=order, mode="nearest")


def apply_window(hu: Floats, settings: PatchSettings) -> NDArray[np.uint8]:
    """Convert Hounsfield units to grey values: 0 below the window, 255 above it."""
    share = np.clip((hu - (settings.level - settings.width / 2)) / settings.width, 0, 1)
    return np.asarray(np.floor(share * 255 + 0.5), dtype=np.uint8)


def patch_corners(region: Region, raster: Raster, settings: PatchSettings) -> Corners | None:
    """Return (top, left) of a region's patches; None if the patch of a point leaves the slice."""
    size = settings.size
    if isinstance(region.shape, Point):
        centre = raster.to_raster(np.array([[region.shape.x, region.shape.y]]))[0]
        # A patch of even size has no centre pixel: the point is the first pixel after the centre.
        left, top = np.ceil(centre - size / 2 - 1e-6).astype(int).tolist()
        rows, columns = raster.size
        if top < 0 or left < 0 or top + size > rows or left + size > columns:
            return None
        return [(top, left)]
    mask = raster.draw(region.shape)
    if min(raster.size) < size or not mask.any():
        return []
    return (_centred_corners if settings.place == "centre" else _grid_corners)(mask, settings)


def _grid_corners(mask: Mask, settings: PatchSettings) -> Corners:
    """Place patches side by side over the bounding box, with equal margins at both ends."""
    size = settings.size
    step = max(1, round(size * (1 - settings.overlap)))
    starts = []
    [box] = ndimage.find_objects(mask.astype(np.int8))
    for side, extent in zip(box, mask.shape, strict=True):
        length = side.stop - side.start
        count = max(1, (length - size) // step + 1)
        start = side.start + (length - size - (count - 1) * step) // 2
        # Patches of a region at the border are moved into the slice.
        start = min(max(start, 0), extent - size - (count - 1) * step)
        starts.append([start + i * step for i in range(count)])
    shares = patch_coverage(mask, size)
    return [(y, x) for y in starts[0] for x in starts[1] if shares[y, x] >= settings.coverage]


def _centred_corners(mask: Mask, settings: PatchSettings) -> Corners:
    """Place one patch in each connected part, where the part covers most of it.

    Among equal places, the one nearest to the centre of the part's bounding box is chosen.
    """
    size = settings.size
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    found = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        part = parts == number
        if np.count_nonzero(part) < settings.coverage * size**2:
            continue
        shares = patch_coverage(part, size)
        best = shares.max()
        if best < settings.coverage:
            continue
        places = np.argwhere(shares == best)
        centre = np.array([(side.start + side.stop - size) / 2 for side in box])
        distance = ((places - centre) ** 2).sum(axis=1)
        top, left = places[distance.argmin()].tolist()
        found.append((top, left))
    return found


def patch_coverage(mask: Mask, size: int) -> Floats:
    """Return (H - size + 1, W - size + 1): the share of each possible patch inside the mask."""
    sums = np.pad(mask, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    inner = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return np.asarray(inner / size**2)
