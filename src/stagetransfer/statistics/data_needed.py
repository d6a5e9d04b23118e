"""How much of the training data a condition needs to reach what another reaches with all of it."""

from dataclasses import replace

import numpy as np

from stagetransfer.statistics.bootstrap_resamples import Resamples
from stagetransfer.statistics.intervals import Interval, calibrated_interval
from stagetransfer.statistics.metrics import Array
from stagetransfer.statistics.slope import RatioSeries, means_by_ratio

STEPS = 32  # between two neighbouring ratios


def data_needed(resamples: Resamples, runs: RatioSeries, reference: RatioSeries) -> Interval:
    """Return the smallest ratio at which runs reach the reference's mean at its greatest ratio.

    Higher values are better. Between neighbouring ratios the means over seeds are interpolated
    linearly. The interval holds the ratios at which the 95 % interval of the distance to the goal
    includes zero (the inversion of a test, as Fieller's method); seeds and groups are resampled for
    both conditions together. 0 stands for less than the smallest ratio, infinity for more than the
    greatest one; all are NaN if the distance is not estimable. There is no p-value. The runs have
    two different ratios or more.
    """
    levels = np.unique(runs.ratios)

    def distance(ratio: float, rows: slice, seeds: Array) -> Array:
        means, goals = (means_by_ratio(of, rows, seeds) for of in (runs, reference))
        above = int(np.clip(np.searchsorted(levels, ratio), 1, len(levels) - 1))
        share = (ratio - levels[above - 1]) / (levels[above] - levels[above - 1])
        reached = (1 - share) * means[:, above - 1] + share * means[:, above]
        return np.asarray(reached - goals[:, -1])

    ends = np.arange(len(levels))
    grid = np.interp(np.linspace(0, ends[-1], STEPS * ends[-1] + 1), ends, levels)
    found = [
        calibrated_interval(resamples, lambda rows, seeds, at=ratio: distance(at, rows, seeds))  # type: ignore[misc]
        for ratio in grid
    ]
    if unknown := next((one for one in found if not np.isfinite([one.low, one.high]).all()), None):
        return replace(Interval.undefined(), why=unknown.why or "not defined on the test images")
    estimate, low, high = (
        _first_reached(grid, np.array([getattr(one, name) for one in found]))
        for name in ("estimate", "high", "low")
    )
    return Interval(estimate, low, high, np.nan, resamples.levels, resamples.levels > 1)


def _first_reached(grid: Array, distances: Array) -> float:
    """Return where distances first are 0 or more, linearly between grid points; 0, inf: outside."""
    reached = distances >= 0
    if not reached.any():
        return np.inf
    first = int(reached.argmax())
    if first == 0:
        return 0.0
    before, after = distances[first - 1 : first + 1]
    share = -before / (after - before)
    return float(grid[first - 1] + share * (grid[first] - grid[first - 1]))
