"""From windows to a map of the lung: each pixel is what the window with the nearest middle is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from stagetransfer.inference.window_labels import OUTSIDE

Map = NDArray[np.int16]


def nearest_window(
    lung: NDArray[np.bool_],
    middles: NDArray[np.float64],
    spacing: tuple[float, float] | None = None,
) -> NDArray[np.int32]:
    """(H, W): each lung pixel's window, -1 elsewhere, and everywhere if there are no windows.

    Args:
        lung: (H, W) of the slice.
        middles: (N, 2) x and y of the windows' middles in pixels of the slice.
        spacing: (row, column) of the pixels in mm, by which distances count; None: square.
    """
    result = np.full(lung.shape, -1, np.int32)
    if len(middles):
        scale = np.array(spacing or (1.0, 1.0))
        _, found = KDTree(middles[:, ::-1] * scale).query(np.argwhere(lung) * scale)
        result[lung] = found
    return result


def painted(windows: NDArray[np.int32], codes: NDArray[np.int64]) -> Map:
    """(H, W): the code of each pixel's window; OUTSIDE where it has none."""
    return np.append(codes, OUTSIDE)[windows].astype(np.int16)


def shares(read: Map, names: Sequence[str]) -> dict[str, float]:
    """Share of the read pixels by code's name; NaN each where there is none."""
    counts = np.bincount(read[read != OUTSIDE].astype(np.int64), minlength=len(names))
    total = counts.sum()
    return {
        name: float(count / total) if total else float("nan")
        for name, count in zip(names, counts, strict=True)
    }
