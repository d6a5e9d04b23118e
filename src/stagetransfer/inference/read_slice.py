"""One slice, read: windows cut, judged, and laid back onto the slice as a map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.ct.regions import Cover
from stagetransfer.ct.roi_patches import Cut, Raster, grey
from stagetransfer.ct.volume import Floats
from stagetransfer.inference.calibrated_classifier import Judge, Verdicts
from stagetransfer.inference.label_map import Map, nearest_window, painted
from stagetransfer.inference.sliding_windows import Windows, slide

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Opinion:
    """On one slice (H, W).

    Attributes:
        grey: (H, W) uint8, the slice through the training window.
        lung: (H, W) where was looked.
        middles: (N, 2) x and y of the windows' middles in pixels of the slice.
        verdicts: on the N windows, row by row.
        windows: (H, W) the window whose middle is nearest to each pixel; -1 outside the lung.
    """

    grey: NDArray[np.uint8]
    lung: Mask
    middles: NDArray[np.float64]
    verdicts: Verdicts
    windows: NDArray[np.int32]

    @cached_property
    def read(self) -> Map:
        """(H, W) codes, see `stagetransfer.inference.window_labels.codes`; -1 outside the lung."""
        return painted(self.windows, self.verdicts.codes)

    @cached_property
    def forced(self) -> Map:
        """(H, W) as `read`, without the two marks."""
        return painted(self.windows, self.verdicts.forced)


@dataclass(frozen=True)
class Sheet:
    """A slice made ready: its grey raster, and its windows."""

    plane: NDArray[np.uint8]
    raster: Raster
    windows: Windows

    def batches(self, batch: int, device: torch.device) -> Iterator[Tensor]:
        """The windows' pixels (B, 1, size, size) uint8."""
        return self.windows.cut(torch.from_numpy(self.plane).to(device), batch)

    def pixels(self, number: int) -> Tensor:
        """One window's pixels (1, 1, size, size) uint8."""
        top, left = int(self.windows.tops[number]), int(self.windows.lefts[number])
        size = self.windows.size
        return torch.from_numpy(self.plane[top : top + size, left : left + size])[None, None]


def prepare(
    hu: Floats, lung: Mask, spacing: tuple[float, float] | None, cut: Cut, stride: int
) -> Sheet:
    """The slice (H, W) in HU as the training patches were cut: resampled where `cut` says so.

    Args:
        spacing: (row, column) of the pixels in mm; known where `cut.spacing` is.
        stride: in pixels of the raster, which are those of a patch.
    """
    raster = Raster.of(hu.shape, spacing, cut.spacing)
    plane = grey(raster.resample(hu), cut)
    inside = raster.cover(Cover(0, 0, lung))
    return Sheet(plane, raster, slide(inside, cut.size, stride, cut.coverage))


def read_slice(
    judge: Judge,
    hu: Floats,
    lung: Mask,
    spacing: tuple[float, float] | None,
    cut: Cut,
    *,
    stride: int = 8,
    batch: int = 128,
) -> Opinion:
    """The opinion on a slice (H, W) in HU within the lung (H, W)."""
    sheet = prepare(hu, lung, spacing, cut, stride)
    verdicts = judge(sheet.batches(batch, judge.device))
    middles = sheet.raster.to_slice(sheet.windows.middles)
    return Opinion(
        grey=grey(hu, cut),
        lung=lung,
        middles=middles,
        verdicts=verdicts,
        windows=nearest_window(lung, middles, spacing),
    )
