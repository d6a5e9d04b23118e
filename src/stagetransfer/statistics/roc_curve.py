"""ROC curves with or without weights: their areas and the sensitivities at given rates.

The threshold runs from the highest score down. Images with equal scores pass it together, so ties
make a slanted piece. Between two thresholds the curve is the straight line, which corresponds to a
random choice between both; the trapezoidal area takes it likewise. Where the curve rises at one
false-positive rate, the sensitivity there is the upper end. Both conventions are those of
scikit-learn's `roc_curve` and `roc_auc_score`.

The partial area is the one left of a false-positive rate f; it is at most f. McClish (1989, Med.
Decis. Making 9) rescales it such that 1/2 is chance and 1 is perfect for any f.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stagetransfer.statistics.bootstrap_resamples import Flags, Resamples
from stagetransfer.statistics.metrics import Array, Integers, ratio

BLOCK = 100_000  # weights at a time: 0.8 MB per array, which fits into the processor's cache


@dataclass(frozen=True)
class Curve:
    """R curves through m points each, from no image called positive to all.

    The m thresholds descend from infinity; a score at or above is called positive. False positives
    (R, m) are a share of negatives (ROC) or a number per case (FROC). A row without positives or
    negatives is NaN.
    """

    thresholds: Array
    false_positives: Array
    sensitivity: Array

    def sensitivity_at(self, false_positives: ArrayLike) -> Array:
        """Return the sensitivities (R, F) at F rates; beyond the end of a curve its last one."""
        # Rates that are equal except for rounding must meet: 0.1 + 0.2 is a point at 0.3.
        at = np.round(np.asarray(false_positives, np.float64), 12)
        x, y = np.round(self.false_positives, 12), self.sensitivity
        if len(x) < at.size:
            return np.stack([np.interp(at, *row) for row in zip(x, y, strict=True)])
        return np.stack([_interpolated(rate, x, y) for rate in at.tolist()], axis=1)

    def area(self, up_to: float = 1.0) -> Array:
        """Return the areas (R,) left of the false-positive rate `up_to` in (0, 1]; for 1, AUC."""
        if not 0 < up_to <= 1:
            raise ValueError(f"up_to must lie in (0, 1], not {up_to}")
        x, y = self.false_positives, self.sensitivity
        inside = np.diff(np.minimum(x, up_to))
        share = 1.0 if up_to == 1 else ratio(inside, np.diff(x), empty=0)
        middle = y[:, :-1] + np.diff(y) * share / 2
        return np.asarray((inside * middle).sum(1))


Measure = Callable[[Curve], Array]


def roc(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Curve:
    """Return R ROC curves of scores (n,); a higher score means more likely positive.

    The weights (R, n) say how much each image counts in each curve; None: one curve of ones.
    """
    truth, s = np.asarray(positive, np.bool_), np.asarray(scores, np.float64)
    if truth.ndim != 1 or truth.shape != s.shape:
        raise ValueError(f"positive and scores must be (n,), not {truth.shape} and {s.shape}")
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite")
    if truth.all() or not truth.any():
        raise ValueError("a ROC curve needs a positive and a negative image")
    w = np.ones((1, len(s))) if weights is None else np.asarray(weights, np.float64)
    return _roc(truth, s, np.arange(len(s)), w)


def _roc(truth: Flags, scores: Array, groups: Integers, weights: Array) -> Curve:
    """Return the ROC curves (R, m) of images (n,) that count as their groups do, (R, G)."""
    sides = ((scores[side], groups[side]) for side in (~truth, truth))
    thresholds, sums = weights_called_positive(weights, *sides)
    return Curve(thresholds, *(ratio(part, part[:, -1:], empty=np.nan) for part in sums))


def _interpolated(rate: float, x: Array, y: Array) -> Array:
    """Return what `np.interp` does for one rate >= 0 and each row of R rows (R, m), faster."""
    rows, last = np.arange(len(x)), x.shape[1] - 1
    at = np.count_nonzero(x <= rate, axis=1) - 1  # where a row rises at the rate: the upper end
    after = np.minimum(at + 1, last)
    x0, y0 = x[rows, at], y[rows, at]
    slope = ratio(y[rows, after] - y0, x[rows, after] - x0, empty=0)
    return np.asarray(np.where(at < 0, np.nan, slope * (rate - x0) + y0))


def mcclish(area: ArrayLike, up_to: float) -> Array:
    """Return partial areas left of the rate `up_to`, standardised: 1/2 is chance, 1 perfect."""
    least = up_to**2 / 2
    return np.asarray((1 + (np.asarray(area, np.float64) - least) / (up_to - least)) / 2)


def resampled_roc(
    resamples: Resamples, positive: ArrayLike, scores: ArrayLike, measure: Measure
) -> Array:
    """Return F numbers of the curves of K runs on every resample, (1 + B + D, K, F).

    The scores are (K, n). `measure` maps R curves to (R, F), such as
    `lambda curve: curve.area()[:, None]`. `interval` and `difference` take one of the F at a time.
    """
    runs = np.atleast_2d(np.asarray(scores, np.float64))
    curves = [roc(positive, run) for run in runs]  # checks them
    truth, groups = np.asarray(positive, np.bool_), resamples.groups
    blocks = [
        np.stack([measure(_roc(truth, run, groups, weights)) for run in runs], axis=1)
        for weights in in_blocks(resamples.weights, len(curves[0].thresholds))
    ]
    return np.concatenate(blocks)


def in_blocks(weights: Array, size: int) -> Sequence[Array]:
    """Return the rows in blocks, such that BLOCK numbers hold `size` for each row of a block."""
    return np.array_split(weights, -(-len(weights) * size // BLOCK))


def weights_called_positive(
    weights: Array, *sides: tuple[Array, Integers]
) -> tuple[Array, list[Array]]:
    """Return all thresholds (m,), and the weight (R, m) at or above each in every side.

    A side has scores (n,), and for each the number of its column in the weights (R, G). The
    thresholds descend from infinity.
    """
    thresholds = np.append(np.inf, np.unique(np.concatenate([s for s, _ in sides]))[::-1])
    sums = []
    for scores, columns in sides:
        order = (-scores).argsort(kind="stable")
        total = np.zeros((len(weights), len(order) + 1))
        np.cumsum(weights[:, columns[order]], axis=1, out=total[:, 1:])
        sums.append(total[:, np.searchsorted(-scores[order], -thresholds, side="right")])
    return thresholds, sums
