"""The codes of windows and pixels, and label maps: each pixel has the code of its nearest window.

Codes 0, 1, ... are the run's classes, followed by two marks: "uncertain", and "unlike the training
data" (see `stagetransfer.inference.calibrated_classifier`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from stagetransfer.ct.roi_patches import Mask
from stagetransfer.ct.volume import Floats, Spacing

DISCLAIMER = "research use, not a diagnosis"  # on all figures and files that may be passed on
MARKS = ("uncertain", "unlike the training data")
OUTSIDE = -1  # the code of pixels outside the lung, or of slices without windows

LabelMap = NDArray[np.int16]


def label_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the codes 0, 1, ...: the classes, then the two marks."""
    return (*classes, *MARKS)


def nearest_window(lung: Mask, centres: Floats, spacing: Spacing = None) -> NDArray[np.int32]:
    """Return (H, W): the window whose centre is nearest to each lung pixel; elsewhere -1.

    The centres (N, 2) are x and y in pixels of the slice, whose spacing is (row, column) in mm;
    None for square pixels.
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
    return dict(zip(names, (counts / (counts.sum() or np.nan)).tolist(), strict=True))


def total_shares(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Return the share of each code in the lung pixels of all slices that have windows.

    A row holds one slice's numbers of windows and lung pixels, and the shares of the codes.
    """
    read = [row for row in rows if row["windows"]]
    pixels = sum(row["lung_pixels"] for row in read)
    if not pixels:
        return {}
    return {name: sum(row[name] * row["lung_pixels"] for row in read) / pixels for name in names}
