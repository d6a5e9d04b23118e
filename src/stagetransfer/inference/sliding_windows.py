"""Sliding windows: their positions, and their pixels as views of a slice."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.ct.roi_patches import Mask, patch_coverage

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """N windows of one raster, row by row."""

    tops: Integers  # (N,) their first row in the raster
    lefts: Integers  # (N,) their first column
    size: int  # their side in pixels

    def __len__(self) -> int:
        return len(self.tops)

    @property
    def centres(self) -> NDArray[np.float64]:
        """(N, 2) x and y of the centres in pixels of the raster; half-integers for even sizes."""
        corners = np.stack([self.lefts, self.tops], axis=1)
        return np.asarray(corners + (self.size - 1) / 2, np.float64)

    def batches(self, plane: Tensor, batch: int) -> Iterator[Tensor]:
        """Yield the windows (B, 1, size, size) of a plane (H, W), on its device."""
        view = plane.unfold(0, self.size, 1).unfold(1, self.size, 1)
        tops, lefts = (torch.from_numpy(a).to(plane.device) for a in (self.tops, self.lefts))
        for first in range(0, len(self), batch):
            rows, columns = (a[first : first + batch] for a in (tops, lefts))
            yield view[rows, columns][:, None]


def place_windows(lung: Mask, size: int, stride: int, coverage: float = 0.0) -> Windows:
    """Return the windows on a regular grid whose central pixel lies in the lung (H, W).

    All windows lie inside the raster, and the margins on opposite sides are equal. The central
    pixel of a window of even size is the first pixel after its centre, as in a patch that
    `stagetransfer extract` takes at a point. At least the share `coverage` of a window is lung.
    """
    starts = []
    for length in lung.shape:
        count = max(0, (length - size) // stride + 1)
        first = (length - size - (count - 1) * stride) // 2
        starts.append(first + stride * np.arange(count, dtype=np.int64))
    tops, lefts = (a.ravel() for a in np.meshgrid(*starts, indexing="ij"))
    inside = lung[tops + size // 2, lefts + size // 2]
    if inside.any():
        inside &= patch_coverage(lung, size)[tops, lefts] >= coverage
    return Windows(tops[inside], lefts[inside], size)
