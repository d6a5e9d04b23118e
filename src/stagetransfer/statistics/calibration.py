"""Calibration of probabilities: temperature scaling, reliability diagram and ECE.

Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks" (ICML): the logits z
are divided by one temperature T > 0, chosen by the likelihood of held-out (validation) images,

    p = softmax(z / T),    T = argmin mean(-ln p(label)).

This changes no prediction and removes most of a network's overconfidence. The expected calibration
error is measured on the test set, in M = 15 bins of the greatest probability:

    ECE = sum_m n_m / n |accuracy_m - confidence_m|,    bin m: (m - 1) / M < p <= m / M.

With few images the ECE is too large, because the noise of each bin enters by its absolute value.
Compare values from one test set only.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from stagetransfer.statistics.bootstrap_resamples import Resamples
from stagetransfer.statistics.intervals import Interval, interval
from stagetransfer.statistics.metrics import Array, Integers, checked_arrays, ratio

BINS = 15
HIGHEST_TEMPERATURE = 100.0


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """Return the temperature that maximises the likelihood of held-out labels (n,).

    A constant per image does not matter in the logits (n, C), so log-probabilities will do. T is 1
    if no image is misclassified (the likelihood then grows without limit as T falls), and at most
    100 (it may grow without limit as T rises if predictions are worse than chance).
    """
    z = np.asarray(logits, np.float64)
    z = z - z.max(1, keepdims=True)
    y, _ = checked_arrays(labels, softmax(z, axis=1), z.shape[1])
    images = np.arange(len(y))
    own = z[images, y]
    if (own == 0).all():
        return 1.0

    def loss(inverse: float) -> float:
        return float(-log_softmax(inverse * z, axis=1)[images, y].mean())

    # The loss is convex in 1 / T. Beyond ln(C) n / |z| of the worst error it only rises: there,
    # that image alone costs more than giving all classes the same probability.
    most = np.log(z.shape[1]) * len(y) / -own.min()
    if most <= 1 / HIGHEST_TEMPERATURE:
        return HIGHEST_TEMPERATURE
    found = minimize_scalar(loss, bounds=(1 / HIGHEST_TEMPERATURE, most), method="bounded")
    return float(1 / found.x)


def apply_temperature(probabilities: ArrayLike, temperature: float) -> Array:
    """Return probabilities (..., C) at a temperature, from those at T = 1; 0 counts as 1e-300."""
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), 1e-300, None))
    return np.asarray(softmax(logs / temperature, axis=-1))


def reliability(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Integers, Array, Array]:
    """Return the reliability diagram of labels (n,) and probabilities (n, C), in M bins (M,).

    These are the number of images, their mean greatest probability and their share of correct
    predictions; the last two are NaN where a bin is empty.
    """
    y, p = checked_arrays(labels, probabilities, np.shape(probabilities)[-1])
    confidence, hit = p.max(1), p.argmax(1) == y
    place = _bin(confidence)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        sure, right = (np.bincount(place, values, BINS) / count for values in (confidence, hit))
    return count.astype(np.int64), sure, right


def resampled_ece(resamples: Resamples, probabilities: ArrayLike) -> Array:
    """Return the ECE of K runs with probabilities (K, n, C) on every resample, (1 + B + D, K).

    Resampling adds the noise of the bins a second time, so the draws lie above the estimate; they
    are shifted back onto it. The estimate keeps its definition, and is thus a little too large.
    """
    groups, weights = resamples.groups, resamples.weights
    size = weights @ np.bincount(groups, minlength=weights.shape[1])
    result = []
    for p in np.asarray(probabilities, np.float64):
        confidence, hit = p.max(1), p.argmax(1) == resamples.labels
        gaps = np.zeros((weights.shape[1], BINS))
        np.add.at(gaps, (groups, _bin(confidence)), hit - confidence)
        result.append(ratio(np.abs(weights @ gaps).sum(1), size, empty=np.nan))
    values = np.stack(result, axis=1)
    values[resamples.drawn] -= values[resamples.drawn].mean(0) - values[0]
    return values


def ece_interval(resamples: Resamples, probabilities: ArrayLike) -> Interval:
    """Return the interval of the mean ECE of S seeds' runs, probabilities (S, n, C), in [0, 1]."""
    return interval(resamples, resampled_ece(resamples, probabilities)).clipped()


def _bin(confidence: Array) -> NDArray[np.intp]:
    return np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)
