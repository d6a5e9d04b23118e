"""A metric against the training-data ratio r: the line y = A r + b, and the area under the curve.

A is in the metric's unit (a fraction, or nats) per unit of r: the change from r = 0 to r = 1
(Suzuki et al. 2018, Table 3). The area is divided by the range of r, so it is a mean of the metric.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from stagetransfer.statistics.bootstrap_resamples import Resamples
from stagetransfer.statistics.intervals import LEVEL, Interval, calibrated_interval
from stagetransfer.statistics.metrics import Array, Integers, ratio

UNEXPLAINED = 0.05
ROUNDING = 1e-24  # variances below count as 0


@dataclass(frozen=True)
class Line:
    """A least-squares line through N runs, with the textbook's 95 % interval of its slope.

    The textbook takes runs as independent, but runs share test images and source stages; the
    interval by bootstrap does not need that assumption.

    Attributes:
        low, high, p_value: of the slope; NaN if N = 2, or if the runs lie on the line.
        lack_of_fit_p: of the F test; NaN if there are only two ratios, only one run at each, or if
            the runs at each ratio are equal.
        bad_fit: whether the line leaves more than UNEXPLAINED of the variance among the ratios'
            means, and this is more than the spread of the runs explains (lack_of_fit_p < 0.05). If
            that test is not defined, only the first counts, so that with one run per ratio noise is
            marked too. A low r_squared alone is no bad fit: a flat line has one near 0.
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
class RatioSeries:
    """A metric of K runs of a condition on every resample, (1 + B + D, K).

    Each run has a ratio and the position 0 .. S - 1 of its seed in the resamples' factors (K,).
    Runs may be missing, but at least one seed needs runs at two ratios.
    """

    values: Array
    ratios: Array
    seeds: Integers


def fit_line(ratios: ArrayLike, values: ArrayLike) -> Line:
    """Fit y = A r + b to ratios (N,), at least two different ones, and values (N,)."""
    r, y = np.asarray(ratios, np.float64), np.asarray(values, np.float64)
    levels, at = np.unique(r, return_inverse=True)
    fit = stats.linregress(r, y)
    n = len(r)
    left_over = y - (fit.intercept + fit.slope * r)
    scatters = n > 2 and (left_over**2).mean() > ROUNDING
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 2) * fit.stderr) if scatters else np.nan
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
        p_value=float(fit.pvalue) if scatters else np.nan,
        lack_of_fit_p=lack,
        bad_fit=bool(coarse and not lack >= 0.05),
    )


def slope_interval(
    resamples: Resamples, a: RatioSeries, b: RatioSeries | None = None, highest: float = np.inf
) -> Interval:
    """Return the interval of the slope of a, or of slope a - slope b.

    The lines are fitted again to each draw. It is clipped to what values in [0, `highest`] allow.
    """
    steepest = highest * sum(_steepest(runs) for runs in (a, b) if runs is not None)
    return _interval(resamples, _slope, a, b).clipped(steepest, -steepest)


def area_interval(
    resamples: Resamples, a: RatioSeries, b: RatioSeries | None = None, highest: float = np.inf
) -> Interval:
    """Return the interval of the area under the means of a at each ratio, or of area a - area b.

    Between two ratios the curve is a straight line. NaN with a single ratio; draws without a run at
    some ratio are left out. The values lie in [0, `highest`].
    """
    return _interval(resamples, _area, a, b).clipped(highest, 0.0 if b is None else -highest)


def _interval(
    resamples: Resamples,
    measure: Callable[[RatioSeries, slice, Array], Array],
    a: RatioSeries,
    b: RatioSeries | None,
) -> Interval:
    def statistic(rows: slice, seeds: Array) -> Array:
        of_a = measure(a, rows, seeds)
        return of_a if b is None else of_a - measure(b, rows, seeds)

    return calibrated_interval(resamples, statistic)


def means_by_ratio(runs: RatioSeries, rows: slice, seeds: Array) -> Array:
    """Return the means (m, L) at each of L ratios; a run counts as often as its seed is drawn."""
    weight = seeds[:, runs.seeds]
    at = np.equal.outer(runs.ratios, np.unique(runs.ratios)).astype(np.float64)
    return ratio((weight * runs.values[rows]) @ at, weight @ at, empty=np.nan)


def _area(runs: RatioSeries, rows: slice, seeds: Array) -> Array:
    levels = np.unique(runs.ratios)
    span = levels[-1] - levels[0] or np.nan
    return np.asarray(np.trapezoid(means_by_ratio(runs, rows, seeds), levels, axis=1) / span)


def _steepest(runs: RatioSeries) -> float:
    """Return the slope of the line through 0 below the mean ratio and 1 above it."""
    centred = runs.ratios - runs.ratios.mean()
    return float(centred.clip(0).sum() / max((centred**2).sum(), ROUNDING))


def _slope(runs: RatioSeries, rows: slice, seeds: Array) -> Array:
    """Return least-squares slopes (m,), weighted as in `means_by_ratio`."""
    weight = seeds[:, runs.seeds]
    weight = weight / np.maximum(weight.sum(1, keepdims=True), 1)
    centred = runs.ratios - (weight * runs.ratios).sum(1, keepdims=True)
    squares = (weight * centred**2).sum(1)
    squares[squares <= 1e-12] = np.nan  # all drawn seeds at one ratio: no line
    return np.asarray((weight * centred * runs.values[rows]).sum(1) / squares)


def _lack_of_fit(of_means: Array, within: Array, num_ratios: int) -> float:
    """Return the p-value: the ratios' means about the line against the runs about these means."""
    freedom, pure = num_ratios - 2, len(within) - num_ratios
    if freedom < 1 or pure < 1:
        return np.nan
    noise, lack = (within**2).sum() / pure, (of_means**2).sum() / freedom
    if noise < ROUNDING:
        return np.nan
    return float(stats.f.sf(lack / noise, freedom, pure))
