"""From windows to a map of the lung: each pixel is what the window with the nearest middle is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from stagetransfer.opinion.words import OUTSIDE

Map = NDArray[np.int16]


def assemble(
    lung: NDArray[np.bool_],
    middles: NDArray[np.float64],
    codes: NDArray[np.int64],
    spacing: tuple[float, float] | None = None,
) -> Map:
    """(H, W): the code of each lung pixel, OUTSIDE elsewhere, and everywhere without windows.

    Args:
        lung: (H, W) of the slice.
        middles: (N, 2) x and y of the windows' middles in pixels of the slice.
        codes: (N,).
        spacing: (row, column) of the pixels in mm, by which distances count; None: square.
    """
    result = np.full(lung.shape, OUTSIDE, np.int16)
    if len(codes):
        scale = np.array(spacing or (1.0, 1.0))
        pixels = np.argwhere(lung)
        _, nearest = KDTree(middles[:, ::-1] * scale).query(pixels * scale)
        result[lung] = codes[nearest]
    return result


def shares(read: Map, names: Sequence[str]) -> dict[str, float]:
    """Share of the read pixels by code's name; NaN each where there is none."""
    counts = np.bincount(read[read != OUTSIDE].astype(np.int64), minlength=len(names))
    total = counts.sum()
    return {
        name: float(count / total) if total else float("nan")
        for name, count in zip(names, counts, strict=True)
    }
