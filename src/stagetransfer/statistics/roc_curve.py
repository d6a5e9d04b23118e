"""ROC curves with or without weights: their areas and the sensitivities at given rates.

The threshold runs from the highest score down. Images with equal scores pass it together, so ties
make a slanted piece. Between two thresholds the curve is the straight line, which corresponds to a
random choice between both; the trapezoidal area takes it likewise. Where the curve rises at one
false-positive rate, the sensitivity there is the upper end. Both conventions are those of
scikit-learn's `roc_curve` and `roc_auc_score`.

The partial area is the one left of a false-positive rate f; it is at most f. McClish (1989, Med.
Decis. Making 9) rescales it such that 1/2 is chance and 1 is perfect for any f.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stagetransfer.statistics.resampling import Resamples

Array = NDArray[np.float64]

BLOCK = 4_000_000  # weights at a time: 32 MB per array


@dataclass(frozen=True)
class Curve:
    """R curves through m points each, from no image called positive to all.

    Attributes:
        thresholds: (m,), descending from infinity; a score at or above is called positive.
        false_positives: (R, m), ascending; the share of negatives (ROC) or number per case (FROC).
        sensitivity: (R, m) in [0, 1], ascending; NaN in a row without positives or negatives.
    """

    thresholds: Array
    false_positives: Array
    sensitivity: Array

    def sensitivity_at(self, false_positives: ArrayLike) -> Array:
        """Return the sensitivities (R, F) at F false-positive rates, or numbers per case.

        Beyond the last point of a curve, its last sensitivity is returned.
        """
        # Rates that are equal except for rounding must meet: 0.1 + 0.2 is a point at 0.3.
        at = np.round(np.asarray(false_positives, np.float64), 12)
        rows = zip(np.round(self.false_positives, 12), self.sensitivity, strict=True)
        return np.stack([np.interp(at, x, y) for x, y in rows])

    def area(self, up_to: float = 1.0) -> Array:
        """Return the areas (R,) left of the false-positive rate `up_to` in (0, 1]; for 1, AUC."""
        if not 0 < up_to <= 1:
            raise ValueError(f"up_to must lie in (0, 1], not {up_to}")
        x, y = self.false_positives, self.sensitivity
        width, rise = np.diff(x), np.diff(y)
        inside = np.diff(np.minimum(x, up_to))
        share = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
        return np.asarray((inside * (y[:, :-1] + rise * share / 2)).sum(1))


Measure = Callable[[Curve], Array]


def roc(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Curve:
    """Return the ROC curve of scores (n,); a higher score means more likely positive.

    Args:
        positive: (n,), True or False.
        weights: (R, n), how much each image counts in each of R curves; None: one curve of ones.

    Raises:
        ValueError: the lengths differ, a score is not finite, or there is no positive or negative.
    """
    truth, s = np.asarray(positive, np.bool_), np.asarray(scores, np.float64)
    if truth.ndim != 1 or truth.shape != s.shape:
        raise ValueError(f"positive and scores must be (n,), not {truth.shape} and {s.shape}")
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite")
    if truth.all() or not truth.any():
        raise ValueError("a ROC curve needs a positive and a negative image")
    w = np.ones((1, len(s))) if weights is None else np.asarray(weights, np.float64)
    thresholds = all_thresholds(s)
    x = weight_called_positive(s[~truth], w[:, ~truth], thresholds)
    y = weight_called_positive(s[truth], w[:, truth], thresholds)
    return Curve(thresholds, shares(x, x[:, -1]), shares(y, y[:, -1]))


def mcclish(area: ArrayLike, up_to: float) -> Array:
    """Return partial areas left of the rate `up_to`, standardised: 1/2 is chance, 1 perfect."""
    least = up_to**2 / 2
    return np.asarray((1 + (np.asarray(area, np.float64) - least) / (up_to - least)) / 2)


def resampled_roc(
    resamples: Resamples, positive: ArrayLike, scores: ArrayLike, measure: Measure
) -> Array:
    """Return F numbers of the curves of K runs on every resample, (1 + B + D, K, F).

    `interval` and `difference` take the result for one of the F numbers at a time.

    Args:
        positive: (n,), for the images of `resamples` in their order.
        scores: (K, n), for the same images.
        measure: a function from R curves to (R, F), such as `lambda curve: curve.area()[:, None]`.
    """
    runs = np.atleast_2d(np.asarray(scores, np.float64))
    blocks = []
    for weights in in_blocks(resamples.weights, runs.shape[1]):
        curves = (roc(positive, run, weights[:, resamples.groups]) for run in runs)
        blocks.append(np.stack([measure(curve) for curve in curves], axis=1))
    return np.concatenate(blocks)


def in_blocks(weights: Array, size: int) -> Sequence[Array]:
    """Return the rows in blocks, such that BLOCK numbers hold `size` for each row of a block."""
    return np.array_split(weights, -(-len(weights) * size // BLOCK))


def all_thresholds(scores: Array) -> Array:
    """Return infinity and then each score once, in descending order."""
    return np.concatenate([[np.inf], np.unique(scores)[::-1]])


def weight_called_positive(scores: Array, weights: Array, thresholds: Array) -> Array:
    """Return the sums (R, m) of the weights (R, n) of scores (n,) at or above each threshold."""
    order = (-scores).argsort(kind="stable")
    total = np.concatenate([np.zeros((len(weights), 1)), weights[:, order].cumsum(1)], axis=1)
    return np.asarray(total[:, np.searchsorted(-scores[order], -thresholds, side="right")])


def shares(part: Array, whole: Array) -> Array:
    """Return (R, m) divided by (R,); NaN where the whole is 0."""
    out = np.full_like(part, np.nan)
    return np.divide(part, whole[:, None], out=out, where=whole[:, None] > 0)
