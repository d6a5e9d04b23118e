"""Whether probabilities can be taken at their word: temperature, reliability, ECE.

Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks" (ICML): dividing the
logits z by one temperature T > 0, chosen by the likelihood of held-out (validation) images,

    p = softmax(z / T),    T = argmin mean(-ln p(label)),

leaves every prediction as it is and takes most of a network's overconfidence away. The expected
calibration error is measured on the test set, in M = 15 bins of the greatest probability:

    ECE = sum_m n_m / n |accuracy_m - confidence_m|,    bin m: (m - 1) / M < p <= m / M.

With few images ECE is too great, since each bin's noise enters by its absolute value: compare
figures of one test set only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from stagetransfer.statistics.bootstrap import Interval, interval
from stagetransfer.statistics.metrics import checked
from stagetransfer.statistics.resampling import Resamples

Array = NDArray[np.float64]

BINS = 15
HOTTEST = 100.0


@dataclass(frozen=True)
class Reliability:
    """By bin of the greatest probability (M,): images, their mean probability, share of hits.

    The last two are NaN where a bin is empty.
    """

    count: NDArray[np.int64]
    confidence: Array
    accuracy: Array

    @property
    def ece(self) -> float:
        """The expected calibration error, in [0, 1]."""
        filled = self.count > 0
        gap = np.abs(self.accuracy - self.confidence)[filled]
        return float((self.count[filled] * gap).sum() / self.count.sum())


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """T of held-out images with labels (n,) and logits (n, C), which may lack a constant each: so
    logarithms of probabilities do as well.

    1.0 where no image is classified wrongly: the likelihood then grows without end as T falls.
    At most 100, where it grows without end as T rises (worse than chance).
    """
    z = np.asarray(logits, np.float64)
    z = z - z.max(1, keepdims=True)
    y, _ = checked(labels, softmax(z, axis=1), z.shape[1])
    own = z[np.arange(len(y)), y]
    if (own == 0).all():
        return 1.0

    def loss(inverse: float) -> float:
        return float(-log_softmax(inverse * z, axis=1)[np.arange(len(y)), y].mean())

    # Convex in 1 / T, and rising beyond ln(C) n / |z| of the worst error: there that image alone
    # costs more than giving all classes the same.
    most = np.log(z.shape[1]) * len(y) / -own.min()
    if most <= 1 / HOTTEST:
        return HOTTEST
    found = minimize_scalar(loss, bounds=(1 / HOTTEST, most), method="bounded")
    return float(1 / found.x)


def tempered(probabilities: ArrayLike, temperature: float) -> Array:
    """Probabilities (..., C) at T = 1 as they are at another T; zeros count as 1e-300."""
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), 1e-300, None))
    return np.asarray(softmax(logs / temperature, axis=-1))


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> Reliability:
    """The diagram's numbers of labels (n,) and probabilities (n, C)."""
    p = np.asarray(probabilities, np.float64)
    y, p = checked(labels, p, p.shape[-1])
    confidence, hit = p.max(1), p.argmax(1) == y
    place = _bin(confidence, bins)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, values, bins) / count for values in (confidence, hit)]
    return Reliability(count.astype(np.int64), *means)


def resampled_ece(resamples: Resamples, probabilities: ArrayLike, bins: int = BINS) -> Array:
    """(1 + B + D, K): ECE of each of K runs' probabilities (K, n, C) on each resample."""
    y = resamples.labels
    p = np.asarray(probabilities, np.float64)
    groups = resamples.weights.shape[1]
    result = np.empty((len(resamples.weights), len(p)))
    for k, of_run in enumerate(p):
        confidence, hit = of_run.max(1), of_run.argmax(1) == y
        gaps = np.zeros((groups, bins))
        np.add.at(gaps, (resamples.groups, _bin(confidence, bins)), hit - confidence)
        size = resamples.weights @ np.bincount(resamples.groups, minlength=groups)
        result[:, k] = np.abs(resamples.weights @ gaps).sum(1) / size
    return result


def ece_interval(resamples: Resamples, probabilities: ArrayLike, bins: int = BINS) -> Interval:
    """Of the mean ECE of the runs of S seeds, probabilities (S, n, C), cut to [0, 1].

    Resampling adds the noise of the bins once more, so that draws lie above the estimate: they are
    moved back onto it. The estimate itself stays as it is defined, and so a little too great.
    """
    values = resampled_ece(resamples, probabilities, bins)
    values[resamples.drawn] -= values[resamples.drawn].mean(0) - values[0]
    return interval(resamples, values).clipped()


def _bin(confidence: Array, bins: int) -> NDArray[np.intp]:
    return np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)
