"""Annotations of a slice: a label at a point, inside a polygon, or on a mask.

Coordinates are pixels of the stored slice: x is the column and y is the row. Whole numbers are the
centres of pixels, and (0, 0) is the first pixel. A pixel extends half a unit to each side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct.volume import Floats


@dataclass(frozen=True)
class Point:
    """The centre of one patch."""

    x: float
    y: float


@dataclass(frozen=True)
class Polygon:
    """A closed polygon with vertices (N, 2) as x, y; a box has four vertices."""

    vertices: Floats

    @classmethod
    def of_rings(cls, rings: Sequence[Floats]) -> Self:
        """Join polygons to one that holds the pixels inside an odd number of them.

        The way from the first to another leads along the same line there and back, which no pixel
        lies between.
        """
        first = rings[0][:1]
        closed = [np.concatenate([one, one[:1], first]) for one in rings]
        return cls(np.concatenate(closed))


@dataclass(frozen=True)
class CroppedMask:
    """A mask (h, w), cropped to its bounding box, from row `top` and column `left` of a slice."""

    top: int
    left: int
    mask: NDArray[np.bool_]

    @property
    def place(self) -> tuple[slice, slice]:
        """The rows and columns of the slice that the mask takes up."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True)
class Region:
    """One label on one slice.

    `index` is the number of the slice in its series, from 0, and `where` is the annotation's row
    or file, for messages. `split` is "train", "validation" or "test" if one is assigned.
    """

    index: int
    label: str
    shape: Point | Polygon | CroppedMask
    where: str
    split: str | None = None


class Annotations(Protocol):
    """The annotations of all series of an input."""

    def regions_of(self, volume: int) -> Iterable[Region]:
        """Return the regions of a series, given its number in the list of series."""
