"""The variance of AUC without resampling (DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44).

The area is the mean, over all pairs of a positive and a negative, of 1, 1/2 or 0 as they are in
order, tied or not. V10 of a positive is its mean over the negatives, V01 of a negative that over
the positives; with S10, S01 their covariances over several curves on the same m + n images, the
areas' covariance is S10 / m + S01 / n. Both come from midranks in O((m + n) log(m + n)) (Sun and
Xu 2014, IEEE Signal Process. Lett. 21).

It takes images as independent and knows nothing of how seeds differ: with several images a
patient its intervals are too narrow. It is the second opinion beside the bootstrap, as McNemar's
test is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from stagetransfer.statistics.bootstrap import LEVEL

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DeLong:
    """An AUC, or a difference of two, with its 95 % interval by the normal distribution.

    p_value: two-sided, of the hypothesis that the area is 1/2, or the difference 0.
    """

    estimate: float
    low: float
    high: float
    p_value: float


def delong(positive: ArrayLike, scores: ArrayLike) -> DeLong:
    """Of the mean AUC of K runs, given as they are; the interval is cut to [0, 1].

    positive: (n,) True or False. scores: (n,) or (K, n), on the same images. Raises ValueError if
    lengths differ, or either side has fewer than two images.
    """
    areas, covariance = delong_covariance(positive, scores)
    share = np.full(len(areas), 1 / len(areas))
    found = _normal(share, areas, covariance, null=0.5)
    return DeLong(found.estimate, max(found.low, 0.0), min(found.high, 1.0), found.p_value)


def delong_difference(positive: ArrayLike, a: ArrayLike, b: ArrayLike) -> DeLong:
    """Of the mean AUC of runs a less that of runs b, in pairs: all on the same images.

    positive: (n,). a, b: (n,) or (K, n).
    """
    x, y = (np.atleast_2d(np.asarray(scores, np.float64)) for scores in (a, b))
    areas, covariance = delong_covariance(positive, np.concatenate([x, y]))
    contrast = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))])
    return _normal(contrast, areas, covariance, null=0.0)


def delong_covariance(positive: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """The AUCs (K,) of K runs on the same images, and their covariance (K, K)."""
    truth = np.asarray(positive, np.bool_)
    s = np.atleast_2d(np.asarray(scores, np.float64))
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


def _normal(contrast: Array, areas: Array, covariance: Array, null: float) -> DeLong:
    estimate = float(contrast @ areas)
    # A run against itself has variance 0, up to rounding on either side of it.
    error = float(np.sqrt(np.clip(contrast @ covariance @ contrast, 0, None)))
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    if error < 1e-12:
        p_value = float(abs(estimate - null) < 1e-12)
    else:
        p_value = float(2 * stats.norm.sf(abs(estimate - null) / error))
    return DeLong(estimate, estimate - half, estimate + half, p_value)
