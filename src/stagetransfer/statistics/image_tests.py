"""Tests that take images as independent: DeLong's of AUC, and McNemar's of errors.

With several images per patient their intervals and p-values are too small, and they ignore how
seeds differ. They complement the bootstrap, which resamples patients. McNemar 1947 (Psychometrika
12) asks whether two models make their errors on different images. DeLong, DeLong, Clarke-Pearson
1988 (Biometrics 44) give the variance of the area under a ROC curve without resampling.

The area is the mean over all pairs of a positive and a negative image of 1 (in the right order),
1/2 (tied) or 0. V10 of a positive image is its mean over the negatives, V01 of a negative image its
mean over the positives. With S10 and S01 their covariances over several curves on the same m + n
images, the covariance of the areas is S10 / m + S01 / n. V10 and V01 are computed from midranks in
O((m + n) log(m + n)) (Sun and Xu 2014, IEEE Signal Process. Lett. 21).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from stagetransfer.statistics.intervals import LEVEL, NO_SPREAD, Interval
from stagetransfer.statistics.metrics import Array

SMALLEST = float(np.finfo(np.float64).tiny)  # a p-value is never 0


def delong(positive: ArrayLike, scores: ArrayLike) -> Interval:
    """Return the mean AUC of K runs with scores (n,) or (K, n), clipped to [0, 1].

    The p-value is for the hypothesis that the area is 1/2. A variance of 0, as for images that are
    perfectly separated, gives no interval (NaN). ValueError if there are fewer than two positive or
    two negative images.
    """
    areas, covariance = delong_covariance(positive, scores)
    return _normal_interval(np.full(len(areas), 1 / len(areas)), areas, covariance, 0.5).clipped()


def delong_difference(positive: ArrayLike, a: ArrayLike, b: ArrayLike) -> Interval:
    """Return the mean AUC of runs a, (n,) or (K, n), minus that of runs b, (n,) or (L, n)."""
    x, y = (np.atleast_2d(np.asarray(scores, np.float64)) for scores in (a, b))
    areas, covariance = delong_covariance(positive, np.concatenate([x, y]))
    contrast = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))])
    return _normal_interval(contrast, areas, covariance, 0)


def delong_covariance(positive: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Return the AUCs (K,) of K runs on the same images, and their covariance (K, K)."""
    truth, s = np.asarray(positive, np.bool_), np.atleast_2d(np.asarray(scores, np.float64))
    if truth.ndim != 1 or s.ndim != 2 or s.shape[1] != len(truth):
        raise ValueError(f"positive must be (n,), scores (K, n), not {truth.shape}, {s.shape}")
    m, n = int(truth.sum()), int((~truth).sum())
    if min(m, n) < 2:
        raise ValueError(f"needs two positive and two negative images or more, not {m} and {n}")
    rank = stats.rankdata(s, axis=1)
    v10 = (rank[:, truth] - stats.rankdata(s[:, truth], axis=1)) / n
    v01 = 1 - (rank[:, ~truth] - stats.rankdata(s[:, ~truth], axis=1)) / m
    covariance = np.cov(v10).reshape(len(s), -1) / m + np.cov(v01).reshape(len(s), -1) / n
    return v10.mean(1), covariance


@dataclass(frozen=True)
class McNemar:
    """The numbers of images that only a, or only b, classifies correctly; the exact p-value."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar(labels: ArrayLike, prediction_a: ArrayLike, prediction_b: ArrayLike) -> McNemar:
    """Compare the predictions of two runs for the same images, all (n,), in the same order.

    If exactly one of the two is correct, the hypothesis makes either equally likely: the two-sided
    p-value is binomial. It is 1 if there is no such image.
    """
    y, a, b = (np.asarray(array) for array in (labels, prediction_a, prediction_b))
    if y.ndim != 1 or not y.shape == a.shape == b.shape:
        raise ValueError(f"all must be (n,), not {y.shape}, {a.shape} and {b.shape}")
    only_a, only_b = int(((a == y) & (b != y)).sum()), int(((a != y) & (b == y)).sum())
    either = only_a + only_b
    p_value = float(stats.binomtest(only_a, either).pvalue) if either else 1.0
    return McNemar(only_a, only_b, max(p_value, SMALLEST))


def _normal_interval(contrast: Array, areas: Array, covariance: Array, null: float) -> Interval:
    estimate = float(contrast @ areas)
    # A run against itself has variance 0, up to rounding on either side of it.
    error = float(np.sqrt(np.clip(contrast @ covariance @ contrast, 0, None)))
    if error < 1e-9:
        return Interval(estimate, np.nan, np.nan, np.nan, len(areas), False, NO_SPREAD)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    p_value = max(float(2 * stats.norm.sf(abs(estimate - null) / error)), SMALLEST)
    return Interval(estimate, estimate - half, estimate + half, p_value, len(areas), False)
