"""ROC curves, weighted or not, and what is read from them: areas and operating points.

A curve is swept from the highest threshold down; images of one score pass it together, so ties
make a slanted piece. Between two thresholds the curve is the straight line (the random choice
between both), as the trapezoidal area takes it too; where it rises at one false-positive rate,
the sensitivity there is the upper end. Both follow scikit-learn's `roc_curve` and `roc_auc_score`.

Partial area: that under the curve left of a false-positive rate f, at most f. McClish (1989, Med.
Decis. Making 9) puts it on the scale of the whole area: 1/2 is chance and 1 is perfect, at any f.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stagetransfer.statistics.resampling import Resamples

Array = NDArray[np.float64]

BLOCK = 4_000_000  # weights at a time: 32 MB an array


@dataclass(frozen=True)
class Curve:
    """R curves through m points each, from no image called positive to all.

    thresholds: (m,), descending, the first infinite; called positive is a score at or above.
    false_positives: (R, m), ascending: the share of negatives (ROC), or their number a case (FROC).
    sensitivity: (R, m) in [0, 1], ascending. NaN in a row without positives or negatives.
    """

    thresholds: Array
    false_positives: Array
    sensitivity: Array

    def sensitivity_at(self, false_positives: ArrayLike) -> Array:
        """(R, F): at F false-positive rates, or numbers a case; beyond the last point its own."""
        # Rates that are equal but for rounding must meet: 0.1 + 0.2 is a point at 0.3.
        at = np.round(np.asarray(false_positives, np.float64), 12)
        rows = zip(np.round(self.false_positives, 12), self.sensitivity, strict=True)
        return np.stack([np.interp(at, x, y) for x, y in rows])

    def area(self, up_to: float = 1.0) -> Array:
        """(R,): under the curve left of the false-positive rate `up_to` in (0, 1]; up to 1 it is
        AUC."""
        if not 0 < up_to <= 1:
            raise ValueError(f"up_to must lie in (0, 1], not {up_to}")
        x, y = self.false_positives, self.sensitivity
        width, rise = np.diff(x), np.diff(y)
        inside = np.diff(np.minimum(x, up_to))
        share = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
        return np.asarray((inside * (y[:, :-1] + rise * share / 2)).sum(1))


Measure = Callable[[Curve], Array]


def roc(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Curve:
    """The ROC curve of scores (n,), the higher the likelier positive (n,), True or False.

    weights: (R, n), how much each image counts in each of R curves; None: one curve, all ones.
    Raises ValueError if lengths differ, a score is not finite, or either side has no image.
    """
    truth, s = np.asarray(positive, np.bool_), np.asarray(scores, np.float64)
    if truth.ndim != 1 or truth.shape != s.shape:
        raise ValueError(f"positive and scores must be (n,), not {truth.shape} and {s.shape}")
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite")
    if truth.all() or not truth.any():
        raise ValueError("a ROC curve needs a positive and a negative image")
    w = np.ones((1, len(s))) if weights is None else np.asarray(weights, np.float64)
    thresholds = descending(s)
    x = called(s[~truth], w[:, ~truth], thresholds)
    y = called(s[truth], w[:, truth], thresholds)
    return Curve(thresholds, per(x, x[:, -1]), per(y, y[:, -1]))


def mcclish(area: ArrayLike, up_to: float) -> Array:
    """Partial areas left of the false-positive rate `up_to`, standardised: 1/2 chance, 1 best."""
    least = up_to**2 / 2
    return np.asarray((1 + (np.asarray(area, np.float64) - least) / (up_to - least)) / 2)


def resampled_roc(
    resamples: Resamples, positive: ArrayLike, scores: ArrayLike, measure: Measure
) -> Array:
    """(1 + B + D, K, F): F numbers of the curve of each of K runs on each row of the weights.

    positive: (n,) and scores: (K, n), on the test set of the resamples, its images in the same
    order. measure: of a curve's R rows (R, F); for example

        lambda curve: curve.sensitivity_at([0.05, 0.1])
        lambda curve: curve.area(0.1)[:, None]

    `interval` and `difference` take the result, one of the F at a time.
    """
    runs = np.atleast_2d(np.asarray(scores, np.float64))
    blocks = []
    for weights in in_blocks(resamples.weights, runs.shape[1]):
        curves = (roc(positive, run, weights[:, resamples.groups]) for run in runs)
        blocks.append(np.stack([measure(curve) for curve in curves], axis=1))
    return np.concatenate(blocks)


def in_blocks(weights: Array, size: int) -> Sequence[Array]:
    """The rows, so many at a time that BLOCK numbers hold `size` for each."""
    return np.array_split(weights, -(-len(weights) * size // BLOCK))


def descending(scores: Array) -> Array:
    """The thresholds: infinity, then each score once."""
    return np.concatenate([[np.inf], np.unique(scores)[::-1]])


def called(scores: Array, weights: Array, thresholds: Array) -> Array:
    """(R, m): the weights (R, n) of the scores (n,) at or above each threshold, summed."""
    order = (-scores).argsort(kind="stable")
    total = np.concatenate([np.zeros((len(weights), 1)), weights[:, order].cumsum(1)], axis=1)
    return np.asarray(total[:, np.searchsorted(-scores[order], -thresholds, side="right")])


def per(part: Array, whole: Array) -> Array:
    """(R, m) by (R,); NaN where the whole is 0."""
    out = np.full_like(part, np.nan)
    return np.divide(part, whole[:, None], out=out, where=whole[:, None] > 0)
