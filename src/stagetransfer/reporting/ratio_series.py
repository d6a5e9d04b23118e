"""The runs of a condition as a metric against the ratio, on the resamples of their seeds."""

from collections.abc import Sequence

import numpy as np

from stagetransfer import statistics as stats
from stagetransfer.runs.run import Replicate, Run
from stagetransfer.runs.study import Study


def ratio_series(
    study: Study, seeds: Sequence[Replicate], runs: Sequence[Run], metric: str
) -> tuple[stats.Resamples, stats.RatioSeries]:
    """Return the resamples of the distinct seeds, and the runs, each at its ratio and seed."""
    distinct = list(dict.fromkeys(seeds))
    positions = np.array([distinct.index(of) for of in seeds])
    ratios = np.array([run.ratio for run in runs])
    return study.resamples(distinct), stats.RatioSeries(
        study.values(runs, metric), ratios, positions
    )
