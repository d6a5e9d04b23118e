"""The prediction of one slice: its windows are classified and form a label map."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.ct.annotations import CroppedMask
from stagetransfer.ct.roi_patches import Mask, PatchSettings, Raster, apply_window
from stagetransfer.ct.volume import Floats, Spacing
from stagetransfer.errors import UserError
from stagetransfer.inference.calibrated_classifier import CalibratedClassifier, WindowPredictions
from stagetransfer.inference.label_map import MARKS, OUTSIDE, LabelMap, label_maps, nearest_window
from stagetransfer.inference.sliding_windows import Windows, place_windows


@dataclass(frozen=True)
class PreparedSlice:
    """A slice as grey values on its raster, with its windows."""

    grey: NDArray[np.uint8]
    raster: Raster
    windows: Windows

    def batches(self, batch: int, device: torch.device) -> Iterator[Tensor]:
        """Yield the windows' pixels (B, 1, size, size) as uint8 on the device."""
        return self.windows.batches(torch.from_numpy(self.grey).to(device), batch)

    def window(self, number: int) -> Tensor:
        """Return the pixels (1, 1, size, size) of one window as uint8."""
        top, left = int(self.windows.tops[number]), int(self.windows.lefts[number])
        size = self.windows.size
        return torch.from_numpy(self.grey[top : top + size, left : left + size])[None, None]


@dataclass(frozen=True)
class SlicePrediction:
    """The prediction of one slice (H, W)."""

    prepared: PreparedSlice
    grey: NDArray[np.uint8]  # (H, W) through the grey window of the training patches
    lung: Mask  # (H, W) where windows were placed
    centres: NDArray[np.float64]  # (N, 2) x and y of the windows' centres in pixels of the slice
    predictions: WindowPredictions  # of the N windows, row by row
    windows: NDArray[np.int32]  # (H, W) the window with the nearest centre; -1 where none is near
    labels: LabelMap  # (H, W) codes of classes, marks and "not read"; -1 outside the lung
    labels_without_marks: LabelMap

    @property
    def window(self) -> tuple[float, float]:
        """(row, column) side of a window in pixels of the slice."""
        rows, columns = (self.prepared.windows.size * scale for scale in self.prepared.raster.scale)
        return rows, columns

    def window_at(self, x: float, y: float) -> int:
        """Return the window with the nearest centre that contains the pixel at x, y; -1: none.

        A pixel extends half a unit to each side of its centre.
        """
        (height, width), row, column = self.lung.shape, floor(y + 0.5), floor(x + 0.5)
        inside = 0 <= row < height and 0 <= column < width
        return int(self.windows[row, column]) if inside else -1


def prepare_slice(
    hu: Floats, lung: Mask, spacing: Spacing, settings: PatchSettings, stride: int
) -> PreparedSlice:
    """Prepare a slice (H, W) in HU as the training patches were: resampled and windowed.

    The (row, column) spacing in mm is required if `settings.spacing` is given. The stride is in
    pixels of the raster. UserError if the slice is smaller than one window.
    """
    raster = Raster.with_spacing(hu.shape, spacing, settings.spacing)
    if min(raster.size) < settings.size:
        height, width = raster.size
        raise UserError(
            f"a window of {settings.size} x {settings.size} pixels is larger than a slice, which "
            f"has {width} x {height} of this size. Give another --spacing or --field"
        )
    grey = apply_window(raster.resample(hu), settings)
    inside = raster.draw(CroppedMask(0, 0, lung))
    windows = place_windows(inside, settings.size, stride, settings.coverage)
    return PreparedSlice(grey, raster, windows)


def predict_slice(
    classifier: CalibratedClassifier,
    hu: Floats,
    lung: Mask,
    spacing: Spacing,
    settings: PatchSettings,
    *,
    stride: int = 8,
    batch: int = 128,
) -> SlicePrediction:
    """Return the prediction of a slice (H, W) in HU within the lung (H, W)."""
    prepared = prepare_slice(hu, lung, spacing, settings, stride)
    predictions = classifier(prepared.batches(batch, classifier.device))
    centres = prepared.raster.to_slice(prepared.windows.centres)
    rows, columns = (settings.size * scale for scale in prepared.raster.scale)
    windows = nearest_window(lung, centres, (rows, columns), spacing)
    labels = _slice_labels(prepared, lung, predictions, classifier.min_probability)
    grey = apply_window(hu, settings)
    return SlicePrediction(prepared, grey, lung, centres, predictions, windows, *labels)


def _slice_labels(
    prepared: PreparedSlice, lung: Mask, found: WindowPredictions, min_probability: float
) -> LabelMap:
    """Return (2, H, W): the label maps of the slice's own pixels, with and without marks."""
    raster, classes = prepared.raster, found.probabilities.shape[1]
    familiar = found.codes != classes + MARKS.index("unlike the training data")
    maps = label_maps(prepared.windows, found.probabilities, familiar, raster.size, min_probability)
    # Pixels of the slice beyond the raster's whole pixels are not read.
    y, x = np.nonzero(lung)
    columns, rows = np.rint(raster.to_raster(np.stack([x, y], axis=1))).astype(np.int64).T
    inside = (rows < raster.size[0]) & (columns < raster.size[1])
    labels = np.full((2, *lung.shape), OUTSIDE, np.int16)
    labels[:, y, x] = classes + len(MARKS)
    labels[:, y[inside], x[inside]] = np.stack(maps)[:, rows[inside], columns[inside]]
    return labels
