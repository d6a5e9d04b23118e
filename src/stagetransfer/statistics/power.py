"""How many seeds or groups (patients) would settle a comparison, from the variances of its runs.

The mean difference of S seeds on G groups has the variance a / S + b / G + e / (S G), where e is
the interaction of seeds and groups. The variances of the bootstrap (`intervals`) give the three
terms: V_s and V_g each contain the interaction, V is the whole. The test is Student's, with the
degrees of freedom of Satterthwaite; its power follows from the noncentral t distribution (Cohen
1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2).

This plans a study. It does not reinterpret the finished one: the true difference is unknown, and
the estimate, which takes its place, may be far from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from stagetransfer.statistics.intervals import LEVEL, Interval
from stagetransfer.statistics.metrics import Array

POWER = 0.8
MOST = 1000  # seeds or groups; more are no advice
_FURTHEST = 100  # standard errors in which the smallest detectable difference is searched


class Needed(NamedTuple):
    """What would find a difference with a power of 80 %, at the level of 5 %.

    `detectable` is the smallest true difference that the runs as they are would find; inf if it is
    more than the estimate and 100 standard errors. `seeds` and `groups` are how many of one would
    find a true difference as large as the estimate, with as many of the other as there are; None if
    `MOST` are too few, or how seeds differ is unknown.
    """

    detectable: float
    seeds: int | None
    groups: int | None


def needed(result: Interval, groups: int) -> Needed:
    """Return what would settle a difference that was estimated on this number of groups."""
    have, spread = (result.seeds, groups), float(np.sqrt(result.variances[2]))

    def lacking(shift: float) -> float:
        return float(power(shift * spread, result.variances, have, have)) - POWER

    def fewest(first: int, *then: ArrayLike) -> int | None:
        enough = power(result.estimate, result.variances, have, then) >= POWER
        return int(enough.argmax()) + first if enough.any() else None

    more_seeds, more_groups = (np.arange(n, max(MOST, n) + 1) for n in have)
    seeds = fewest(have[0], more_seeds, groups) if result.seeds_resampled else None
    # With a single degree of freedom or less, even very large differences are not found.
    furthest = max(_FURTHEST, abs(result.estimate) / spread)
    least = optimize.brentq(lacking, 0, furthest) if lacking(furthest) > 0 else np.inf
    detectable = spread * float(least)
    return Needed(detectable, seeds, fewest(groups, result.seeds, more_groups))


def plan(pair: str, result: Interval, groups: int, unit: str) -> str:
    """Return as a sentence what would settle the comparison of a pair in a metric in [0, 1]."""
    found = needed(result, groups)
    detectable = f"{100 * found.detectable:.1f} points"
    start = f"{pair}: these runs can detect a true difference of {detectable}"
    if found.detectable > 1:
        start = f"{pair}: these runs can detect no difference, because they are too few"
    if (found.seeds, found.groups) == (result.seeds, groups):
        return (
            f"{start}, which is less than the measured one ({100 * abs(result.estimate):.1f} "
            "points). Holm's correction for the number of pairs leaves the comparison open."
        )
    seeds = f"{found.seeds} seeds in place of {result.seeds}"
    if found.seeds is None:
        seeds = f"more than {MOST:,} seeds"
    if not result.seeds_resampled:
        seeds = "an unknown number of seeds (run two more to learn how seeds differ)"
    more = f"{found.groups} {unit} in place of {groups}"
    if found.groups is None:
        more = f"more than {MOST:,} {unit}"
    measured = f"{100 * abs(result.estimate):.1f} points"
    return f"{start}. A difference of {measured} needs {seeds}, or {more}."


def power(
    difference: float,
    variances: tuple[float, float, float],
    have: tuple[int, int],
    then: Sequence[ArrayLike],
) -> Array:
    """Return the power for a true difference with other numbers of seeds and groups.

    `variances` are those of an `Interval` with the numbers (seeds, groups) in `have`; `then` are
    the numbers planned, which may be arrays.
    """
    seeds, groups = (np.asarray(number, np.float64) for number in then)
    of_seeds, of_groups, whole = variances
    both = of_seeds + of_groups - whole  # the interaction
    x, y = have[0] / seeds, have[1] / groups
    planned_seeds, planned_groups = ((of_seeds - both) * x, (of_groups - both) * y)
    variance = planned_seeds + planned_groups + both * x * y
    uncertainty = (planned_seeds + both * x * y) ** 2 / np.maximum(seeds - 1, 1)
    uncertainty = uncertainty + (planned_groups + both * x * y) ** 2 / np.maximum(groups - 1, 1)
    freedom = variance**2 / uncertainty
    critical, shift = stats.t.ppf((1 + LEVEL) / 2, freedom), abs(difference) / np.sqrt(variance)
    found = stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift)
    return np.where(np.isnan(found), shift > critical, found)  # far from the critical value
