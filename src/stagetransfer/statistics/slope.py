"""The line y = A r + b of a figure against the training-data ratio r (Suzuki et al. 2018, Table 3).

A is in the figure's unit (a fraction, or nats) per unit of r: the change that going from r = 0 to
r = 1 would make.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from stagetransfer.statistics.bootstrap import LEVEL, Interval, calibrated
from stagetransfer.statistics.resampling import Resamples

Array = NDArray[np.float64]

UNEXPLAINED = 0.05
ROUNDING = 1e-24  # a variance that is none


@dataclass(frozen=True)
class Line:
    """Least squares over N runs, with the textbook's 95 % interval of the slope and its p-value.

    The textbook takes runs as independent, which runs that share test images and sources are not;
    the bootstrap's interval does without that. NaN: low, high, p_value with N = 2;
    lack_of_fit_p with two ratios only, or with one run at each.
    bad_fit: the line leaves more than UNEXPLAINED of the variance among the ratios' means, and
    the F test of lack of fit finds that more than the runs' spread explains (lack_of_fit_p <
    0.05); where that test is not defined, the first alone, so that with one run a ratio noise is
    marked as well. A low r_squared is no bad fit by itself: a condition that r does not touch has
    a flat line and an r_squared near 0.
    """

    slope: float
    intercept: float
    r_squared: float
    low: float
    high: float
    p_value: float
    lack_of_fit_p: float
    bad_fit: bool


@dataclass(frozen=True)
class Runs:
    """A figure of the K runs of a condition, at several ratios.

    values: (1 + B + D, K) from `resampled_metrics`. ratios: (K,) in (0, 1]. seeds: (K,), each
    run's place 0 .. S - 1 among the resampled seeds. Runs may be missing; at least one seed needs
    two ratios.
    """

    values: Array
    ratios: Array
    seeds: NDArray[np.int64]


def line(ratios: ArrayLike, values: ArrayLike) -> Line:
    """Fits y = A r + b to N runs: ratios (N,), a figure's values (N,).

    Raises ValueError with fewer than two different ratios.
    """
    r, y = np.asarray(ratios, np.float64), np.asarray(values, np.float64)
    levels, at = np.unique(r, return_inverse=True)
    if r.ndim != 1 or r.shape != y.shape or len(levels) < 2:
        raise ValueError("a line needs ratios (N,) and values (N,) at two different ratios or more")
    fit = stats.linregress(r, y)
    n, nan = len(r), float("nan")
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 2) * fit.stderr) if n > 2 else nan
    means = np.bincount(at, y) / np.bincount(at)
    lack = _lack_of_fit(means[at] - (fit.intercept + fit.slope * r), y - means[at], len(levels))
    of_means = stats.linregress(levels, means)
    left = means - (of_means.intercept + of_means.slope * levels)
    coarse = (left**2).mean() > UNEXPLAINED * means.var() + ROUNDING
    return Line(
        slope=float(fit.slope),
        intercept=float(fit.intercept),
        r_squared=float(fit.rvalue**2),
        low=float(fit.slope) - half,
        high=float(fit.slope) + half,
        p_value=float(fit.pvalue) if n > 2 else nan,
        lack_of_fit_p=lack,
        bad_fit=bool(coarse and not lack >= 0.05),
    )


def slope_interval(resamples: Resamples, runs: Runs) -> Interval:
    """Of the slope: seeds and groups resampled together, the line fitted again to each draw."""
    return calibrated(resamples, lambda rows, seeds: _slope(runs, rows, seeds))


def slope_difference(resamples: Resamples, a: Runs, b: Runs) -> Interval:
    """Of slope a - slope b of two conditions, with the same resamples."""
    return calibrated(
        resamples, lambda rows, seeds: _slope(a, rows, seeds) - _slope(b, rows, seeds)
    )


def _slope(runs: Runs, rows: slice, seeds: Array) -> Array:
    """(m,): the least-squares slope, each run counting as often as its seed is drawn."""
    weight = seeds[:, runs.seeds]
    weight = weight / np.maximum(weight.sum(1, keepdims=True), 1)
    centred = runs.ratios - (weight * runs.ratios).sum(1, keepdims=True)
    squares = (weight * centred**2).sum(1)
    products = (weight * centred * runs.values[rows]).sum(1)
    squares = np.where(squares > 1e-12, squares, np.nan)  # all drawn seeds at one ratio: no line
    return np.asarray(products / squares)


def _lack_of_fit(of_means: Array, within: Array, num_ratios: int) -> float:
    """p of the F test: the ratios' means about the line against the runs about their mean."""
    freedom, pure = num_ratios - 2, len(within) - num_ratios
    if freedom < 1 or pure < 1:
        return float("nan")
    noise = (within**2).sum() / pure
    lack = (of_means**2).sum() / freedom
    if noise < ROUNDING:
        return 1.0 if lack < ROUNDING else 0.0
    return float(stats.f.sf(lack / noise, freedom, pure))
