"""ROI patches: where they lie on a slice, and their grey values.

    grey = round(255 * clip((HU - (level - width / 2)) / width, 0, 1))

The papers' ROIs are 32x32 pixels, 16 to 20 mm wide (Suzuki et al. 2018, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.ct.regions import Cover, Outline, Point, Region
from stagetransfer.ct.volume import Floats

Mask = NDArray[np.bool_]
Place = Literal["grid", "centre"]


@dataclass(frozen=True)
class Cut:
    """How patches are cut.

    Attributes:
        size: side in pixels.
        level, width: the window in Hounsfield units, which the grey values 0 to 255 span.
        spacing: side of a patch's pixel in mm, to which slices are resampled; None: as stored.
        place: "grid": side by side over the region; "centre": one in each connected part.
        coverage: least share of the patch within its region, in [0, 1].
        overlap: share of the side by which neighbours of the grid overlap, in [0, 1).
    """

    size: int = 32
    level: float = -600.0
    width: float = 1500.0
    spacing: float | None = None
    place: Place = "grid"
    coverage: float = 0.75
    overlap: float = 0.0


@dataclass(frozen=True)
class Raster:
    """The pixels that patches are cut from: the slice's own, or those it is resampled to.

    Attributes:
        shape: (H, W) of the slice.
        scale: (row, column) sides of a raster's pixel in pixels of the slice; (1, 1) without
            resampling.
    """

    shape: tuple[int, int]
    scale: tuple[float, float]

    @classmethod
    def of(
        cls, shape: tuple[int, int], spacing: tuple[float, float] | None, target: float | None
    ) -> Raster:
        """The raster of a slice; both spacings in mm, `spacing` known where `target` is given."""
        if target is None or spacing is None:
            return cls(shape, (1.0, 1.0))
        return cls(shape, (target / spacing[0], target / spacing[1]))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the raster, of whole pixels within the slice."""
        # The thousandth keeps a size that is whole but for rounding.
        rows, columns = (int(n / s + 1e-3) for n, s in zip(self.shape, self.scale, strict=True))
        return rows, columns

    def to_raster(self, xy: Floats) -> Floats:
        """(N, 2) x and y of the slice in pixels of the raster; edges of both begin at -0.5."""
        return np.asarray((xy + 0.5) / self.scale[::-1] - 0.5)

    def to_slice(self, xy: Floats) -> Floats:
        """The way back."""
        return np.asarray((xy + 0.5) * self.scale[::-1] - 0.5)

    def resample(self, plane: Floats) -> Floats:
        """(H, W) values at the raster's pixels: linear, smoothed before where pixels get larger."""
        if self.scale == (1.0, 1.0):
            return plane
        # As scikit-image's resize does against aliasing.
        smooth = ndimage.gaussian_filter(
            plane, [max(0.0, (s - 1) / 2) for s in self.scale], mode="nearest"
        )
        return np.asarray(self._at(smooth, order=1))

    def cover(self, cover: Cover) -> Mask:
        """(H, W) of the raster: a mask of the slice by the nearest pixel."""
        whole = np.zeros(self.shape, dtype=np.uint8)
        height, width = cover.mask.shape
        whole[cover.top : cover.top + height, cover.left : cover.left + width] = cover.mask
        return np.asarray(whole if self.scale == (1.0, 1.0) else self._at(whole, order=0)) > 0

    def fill(self, outline: Outline) -> Mask:
        """(H, W) of the raster: pixels whose middle lies in the polygon."""
        vertices = self.to_raster(outline.vertices)
        rows, columns = self.size
        low = np.clip(np.floor(vertices.min(axis=0)).astype(int), 0, None)
        high = np.minimum(np.ceil(vertices.max(axis=0)).astype(int) + 1, (columns, rows))
        x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        inside = Polygon(vertices).contains_points(np.column_stack([x.ravel(), y.ravel()]))
        mask = np.zeros(self.size, dtype=np.bool_)
        mask[low[1] : high[1], low[0] : high[0]] = inside.reshape(x.shape)
        return mask

    def _at(self, values: NDArray[Any], order: Literal[0, 1]) -> NDArray[Any]:
        offset = [0.5 * s - 0.5 for s in self.scale]
        return np.asarray(
            ndimage.affine_transform(
                values,
                np.array(self.scale),
                offset=offset,
                output_shape=self.size,
                order=order,
                mode="nearest",
            )
        )


def grey(hu: Floats, cut: Cut) -> NDArray[np.uint8]:
    """Hounsfield units through the window: 0 at its lower end, 255 at its upper."""
    share = np.clip((hu - (cut.level - cut.width / 2)) / cut.width, 0, 1)
    return np.asarray(np.floor(share * 255 + 0.5), dtype=np.uint8)


def corners(region: Region, raster: Raster, cut: Cut) -> list[tuple[int, int]] | None:
    """(top, left) of a region's patches in the raster; None if a point's patch leaves the slice."""
    if isinstance(region.shape, Point):
        middle = raster.to_raster(np.array([[region.shape.x, region.shape.y]]))[0]
        # An even patch has no middle pixel: the point is the first after its middle.
        left, top = np.ceil(middle - cut.size / 2 - 1e-6).astype(int).tolist()
        rows, columns = raster.size
        if top < 0 or left < 0 or top + cut.size > rows or left + cut.size > columns:
            return None
        return [(top, left)]
    shape = region.shape
    mask = raster.fill(shape) if isinstance(shape, Outline) else raster.cover(shape)
    if min(raster.size) < cut.size or not mask.any():
        return []
    return _centred(mask, cut) if cut.place == "centre" else _grid(mask, cut)


def _grid(mask: Mask, cut: Cut) -> list[tuple[int, int]]:
    """Side by side over the bounding box, what is left over shared by its two margins."""
    step = max(1, round(cut.size * (1 - cut.overlap)))
    starts = []
    for axis in (0, 1):
        filled = np.flatnonzero(mask.any(axis=1 - axis))
        first, length = int(filled[0]), int(filled[-1] - filled[0] + 1)
        count = max(1, (length - cut.size) // step + 1)
        start = first + (length - cut.size - (count - 1) * step) // 2
        # A region at the border keeps its patches within the slice.
        start = min(max(start, 0), mask.shape[axis] - cut.size - (count - 1) * step)
        starts.append([start + i * step for i in range(count)])
    shares = covered(mask, cut.size)
    return [(y, x) for y in starts[0] for x in starts[1] if shares[y, x] >= cut.coverage]


def _centred(mask: Mask, cut: Cut) -> list[tuple[int, int]]:
    """In each part the place that covers most of it; of equals the one nearest to its middle."""
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    found = []
    for number, where in enumerate(ndimage.find_objects(parts), start=1):
        part = parts == number
        if np.count_nonzero(part) < cut.coverage * cut.size**2:
            continue
        shares = covered(part, cut.size)
        best = shares.max()
        if best < cut.coverage:
            continue
        places = np.argwhere(shares == best)
        middle = np.array([(s.start + s.stop - cut.size) / 2 for s in where])
        distance = ((places - middle) ** 2).sum(axis=1)
        top, left = places[distance.argmin()].tolist()
        found.append((top, left))
    return found


def covered(mask: Mask, size: int) -> Floats:
    """(H - size + 1, W - size + 1): share of each possible patch that the mask covers."""
    sums = np.pad(mask, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    inner = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return np.asarray(inner / size**2)
