"""The codes of windows and pixels, and label maps: each pixel has the code of its nearest window.

Codes 0, 1, ... are the run's classes, followed by two marks: "uncertain", and "unlike the training
data" (see `stagetransfer.inference.calibrated_classifier`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

DISCLAIMER = "research use, not a diagnosis"
"""Appears on every figure and in every file that may be passed on."""

MARKS = ("uncertain", "unlike the training data")

OUTSIDE = -1
"""The code of pixels outside the lung, or of slices without windows."""

LabelMap = NDArray[np.int16]


def label_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the codes 0, 1, ...: the classes, then the two marks."""
    return (*classes, *MARKS)


def nearest_window(
    lung: NDArray[np.bool_],
    centres: NDArray[np.float64],
    spacing: tuple[float, float] | None = None,
) -> NDArray[np.int32]:
    """Return (H, W): the window whose centre is nearest to each lung pixel.

    Args:
        lung: (H, W) of the slice.
        centres: (N, 2) x and y of the windows' centres in pixels of the slice.
        spacing: (row, column) of the pixels in mm, for the distances; None for square pixels.

    Returns:
        -1 outside the lung, and everywhere if there are no windows.
    """
    result = np.full(lung.shape, -1, np.int32)
    if len(centres):
        scale = np.array(spacing or (1.0, 1.0))
        _, found = KDTree(centres[:, ::-1] * scale).query(np.argwhere(lung) * scale)
        result[lung] = found
    return result


def label_map(windows: NDArray[np.int32], codes: NDArray[np.int64]) -> LabelMap:
    """Return (H, W): the code of each pixel's window, `OUTSIDE` where there is none."""
    return np.append(codes, OUTSIDE)[windows].astype(np.int16)


def label_shares(labels: LabelMap, names: Sequence[str]) -> dict[str, float]:
    """Return the share of each code in the labelled pixels; NaN if no pixel is labelled."""
    counts = np.bincount(labels[labels != OUTSIDE].astype(np.int64), minlength=len(names))
    total = counts.sum()
    return {
        name: float(count / total) if total else float("nan")
        for name, count in zip(names, counts, strict=True)
    }
