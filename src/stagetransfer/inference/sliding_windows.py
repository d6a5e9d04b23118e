"""Sliding windows: where they lie, and their pixels, cut from a strided view of the slice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.ct.roi_patches import covered

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """N windows of one raster, row by row.

    Attributes:
        tops, lefts: (N,) their first row and column in the raster.
        size: their side in pixels.
    """

    tops: Integers
    lefts: Integers
    size: int

    def __len__(self) -> int:
        return len(self.tops)

    @property
    def middles(self) -> NDArray[np.float64]:
        """(N, 2) x and y of their middles in pixels of the raster; halves for an even size."""
        corners = np.stack([self.lefts, self.tops], axis=1)
        return np.asarray(corners + (self.size - 1) / 2, np.float64)

    def cut(self, plane: Tensor, batch: int) -> Iterator[Tensor]:
        """Their pixels (B, 1, size, size), in batches, from a plane (H, W) on its device."""
        view = plane.unfold(0, self.size, 1).unfold(1, self.size, 1)
        tops, lefts = (torch.from_numpy(a).to(plane.device) for a in (self.tops, self.lefts))
        for first in range(0, len(self), batch):
            rows, columns = (a[first : first + batch] for a in (tops, lefts))
            yield view[rows, columns][:, None]


def slide(lung: Mask, size: int, stride: int, coverage: float = 0.0) -> Windows:
    """The windows, `stride` pixels apart and wholly on the raster, whose centre lies in the lung.

    What the strides leave over is shared by the two margins. The centre of an even window is the
    first pixel after its middle, as it is of a patch that `stagetransfer extract` cuts at a point.

    Args:
        lung: (H, W) of the raster.
        coverage: least share of a window that is lung, in [0, 1].
    """
    starts = []
    for length in lung.shape:
        count = max(0, (length - size) // stride + 1)
        first = (length - size - (count - 1) * stride) // 2
        starts.append(first + stride * np.arange(count, dtype=np.int64))
    tops, lefts = (a.ravel() for a in np.meshgrid(*starts, indexing="ij"))
    inside = lung[tops + size // 2, lefts + size // 2]
    if inside.any():
        inside &= covered(lung, size)[tops, lefts] >= coverage
    return Windows(tops[inside], lefts[inside], size)
