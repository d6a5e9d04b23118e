"""How much of the training data a condition needs to reach what another reaches with all of it."""

from dataclasses import dataclass

import numpy as np

from stagetransfer.statistics.bootstrap_resamples import Resamples
from stagetransfer.statistics.intervals import calibrated_interval
from stagetransfer.statistics.metrics import Array
from stagetransfer.statistics.slope import RatioSeries

STEPS = 32  # between two neighbouring ratios


@dataclass(frozen=True)
class DataNeeded:
    """The ratio at which a condition reaches a goal, with the ends of its 95 % interval.

    0 stands for less than the smallest ratio, infinity for more than the greatest one. All are NaN
    if the goal's distance is not estimable, and `why` says why.
    """

    estimate: float
    low: float
    high: float
    why: str = ""


def data_needed(resamples: Resamples, runs: RatioSeries, reference: RatioSeries) -> DataNeeded:
    """Return the smallest ratio at which runs reach the reference's mean at its greatest ratio.

    Higher values are better. Between neighbouring ratios the means over seeds are interpolated
    linearly. The interval holds the ratios at which the 95 % interval of the distance to the goal
    includes zero (the inversion of a test, as Fieller's method); seeds and groups are resampled for
    both conditions together. ValueError if the runs have one ratio only.
    """
    levels = np.unique(runs.ratios)
    if len(levels) < 2:
        raise ValueError("runs at two different ratios or more are needed")
    goal = reference.ratios == reference.ratios.max()

    def distance(ratio: float, rows: slice, seeds: Array) -> Array:
        above = int(np.clip(np.searchsorted(levels, ratio), 1, len(levels) - 1))
        share = (ratio - levels[above - 1]) / (levels[above] - levels[above - 1])
        below, beyond = (
            _mean(runs, runs.ratios == level, rows, seeds)
            for level in levels[above - 1 : above + 1]
        )
        reached = (1 - share) * below + share * beyond
        return np.asarray(reached - _mean(reference, goal, rows, seeds))

    ends = np.arange(len(levels))
    grid = np.interp(np.linspace(0, ends[-1], STEPS * ends[-1] + 1), ends, levels)
    found = [
        calibrated_interval(resamples, lambda rows, seeds, at=ratio: distance(at, rows, seeds))  # type: ignore[misc]
        for ratio in grid
    ]
    if unknown := next((one for one in found if not np.isfinite([one.low, one.high]).all()), None):
        return DataNeeded(np.nan, np.nan, np.nan, unknown.why or "not defined on the test images")
    estimate, low, high = (
        _first_reached(grid, np.array([getattr(one, name) for one in found]))
        for name in ("estimate", "high", "low")
    )
    return DataNeeded(estimate, low, high)


def _mean(runs: RatioSeries, chosen: Array, rows: slice, seeds: Array) -> Array:
    """Return the means (m,) of the chosen runs, each counting as often as its seed is drawn."""
    weight = seeds[:, runs.seeds] * chosen
    total = weight.sum(1)
    sums = (weight * np.where(chosen, runs.values[rows], 0)).sum(1)
    return np.asarray(np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0))


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
