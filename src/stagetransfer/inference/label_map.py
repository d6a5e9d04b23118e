"""The codes of windows and pixels, and label maps, in which the windows of a pixel are averaged.

Codes 0, 1, ... are the run's classes, followed by two marks: "uncertain", and "unlike the training
data" (see `stagetransfer.inference.calibrated_classifier`). The last code, "not read", is that of
lung pixels that no window contains: the network has not seen them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from stagetransfer.ct.roi_patches import Mask
from stagetransfer.ct.volume import Floats, Spacing
from stagetransfer.errors import UserError
from stagetransfer.inference.sliding_windows import Windows

DISCLAIMER = "research use, not a diagnosis"  # on all figures and files that may be passed on
MARKS = ("uncertain", "unlike the training data")
NOT_READ = "not read"
COLUMNS = ("patient", "file", "series", "slice", "slices", "windows", "lung_pixels", "lung_mm2")
"""The columns beside those of the codes in the tables of shares."""
FAMILIAR_SHARE = 0.25  # of a pixel's windows, below which it is unlike the training data
OUTSIDE = -1  # the code of pixels outside the lung

LabelMap = NDArray[np.int16]


def label_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the codes 0, 1, ...: the classes, the two marks, and "not read"."""
    return (*classes, *MARKS, NOT_READ)


def check_class_names(classes: Sequence[str], others: Sequence[str] = ()) -> None:
    """Raise UserError if a class has the name of a mark, or one of `others`."""
    if taken := [name for name in classes if name in (*MARKS, NOT_READ, *others)]:
        raise UserError(
            f"class {taken[0]!r}: the tables of predict use this name for something else. "
            "Rename the class, and train again"
        )


def nearest_window(
    lung: Mask, centres: Floats, sides: tuple[float, float], spacing: Spacing = None
) -> NDArray[np.int32]:
    """Return (H, W): the window whose centre is nearest to each lung pixel, if it contains it.

    Elsewhere it is -1. The centres (N, 2) are x and y, and the sides of the windows are (rows,
    columns), both in pixels of the slice. Its spacing is (row, column) in mm; None if unknown.
    """
    result = np.full(lung.shape, -1, np.int32)
    if len(centres):
        scale, pixels = np.array(spacing or (1.0, 1.0)), np.argwhere(lung)
        _, found = KDTree(centres[:, ::-1] * scale).query(pixels * scale)
        # A thousandth, because centres of resampled windows are rounded.
        near = np.abs(pixels - centres[found, ::-1]) <= np.array(sides) / 2 + 1e-3
        result[lung] = np.where(near.all(axis=1), found, -1)
    return result


def window_sums(windows: Windows, values: Floats, shape: tuple[int, int]) -> Floats:
    """Return (H, W): the sum of the values (N,) of the windows that contain each raster pixel."""
    # Each window adds its value from its first corner on, and takes it away at the other sides.
    corners, size = np.zeros((shape[0] + 1, shape[1] + 1)), windows.size
    for down, right, sign in ((0, 0, 1), (size, 0, -1), (0, size, -1), (size, size, 1)):
        np.add.at(corners, (windows.tops + down, windows.lefts + right), sign * values)
    return np.asarray(corners.cumsum(0).cumsum(1)[:-1, :-1])


def label_maps(
    windows: Windows,
    probabilities: Floats,
    familiar: Mask,
    shape: tuple[int, int],
    min_probability: float,
) -> tuple[LabelMap, LabelMap]:
    """Return two label maps (H, W) of a raster: with the two marks, and without.

    The probabilities (N, C) of the windows that contain a pixel are averaged. Those that are unlike
    the training data, where `familiar` (N,) is False, count only if there is no other. A pixel is
    unlike the training data if less than a quarter of its windows is familiar, and otherwise
    uncertain if its greatest mean probability is below `min_probability`.
    """
    number = window_sums(windows, np.ones(len(windows)), shape)
    known = window_sums(windows, familiar.astype(np.float64), shape)
    best, classes = np.full(shape, -np.inf), probabilities.shape[1]
    plain = np.full(shape, classes + len(MARKS), np.int16)
    for code, p in enumerate(probabilities.T):
        own = np.where(
            known > 0, window_sums(windows, p * familiar, shape), window_sums(windows, p, shape)
        )
        better = (number > 0) & (own > best)
        plain[better], best[better] = code, own[better]
    best /= np.where(known > 0, known, np.maximum(number, 1))
    marked = np.where((number > 0) & (best < min_probability), classes, plain)
    marked = np.where(known < FAMILIAR_SHARE * number, classes + 1, marked)
    return marked.astype(np.int16), plain


def label_shares(labels: LabelMap, names: Sequence[str]) -> dict[str, float]:
    """Return each code's share of the lung that was read (NaN if none was).

    The share of "not read", the last name, is that of the whole lung.
    """
    counts = np.bincount(labels[labels != OUTSIDE].astype(np.int64), minlength=len(names))
    read = counts[:-1].sum()
    shares = [*(counts[:-1] / (read or np.nan)), counts[-1] / (counts.sum() or np.nan)]
    return dict(zip(names, map(float, shares), strict=True))


def patient_shares(slices: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return one row per patient: slices, windows, lung area, and each code's share.

    Shares are as in `label_shares`, over all slices of the patient. Slices are weighted by area in
    mm2, or by pixels if the spacing of one of the patient's series is unknown. `slices` has one row
    per slice: patient, windows, lung_pixels, lung_mm2 and the shares of the codes.
    """
    rows = []
    for patient, own in slices.groupby("patient"):
        lung = own["lung_mm2" if own["lung_mm2"].notna().all() else "lung_pixels"]
        of = dict.fromkeys(names, lung * (1 - own[NOT_READ])) | {NOT_READ: lung}
        shares = {k: (own[k] * area).sum() / (area.sum() or np.nan) for k, area in of.items()}
        sizes = own[["windows", "lung_pixels", "lung_mm2"]].sum(skipna=False)
        rows.append({"patient": patient, "slices": len(own), **sizes, **shares})
    return pd.DataFrame(rows)
