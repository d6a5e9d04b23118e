"""Conditions compared on corrupted test sets: intervals, paired differences, relative error.

The mean corruption error relative to scratch is that of Hendrycks and Dietterich (2019, arXiv
1903.12261), with scratch in the place of AlexNet. E(c, s) is the share of errors under corruption c
at severity s, from 1 to 5:

    CE_c = sum_s E(c, s) / sum_s E_scratch(c, s),    mCE = mean_c CE_c.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from stagetransfer import statistics as stats
from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Pair, Study
from stagetransfer.statistics import Interval
from stagetransfer.statistics.calibration import resampled_ece
from stagetransfer.statistics.intervals import calibrated_interval
from stagetransfer.statistics.metrics import Array, ratio
from stagetransfer.stress.corruptions import SEVERITIES, Scale

METRICS = ("accuracy", "recall", "cross_entropy", "ece")
SCRATCH, ALL = "scratch", "all"


class Robustness:
    """A study's runs on the test set under every corruption and severity."""

    def __init__(self, study: Study, probabilities: Mapping[str, Array], scale: Scale) -> None:
        """Compute all metrics from the probabilities (K, n, C) by the run's name."""
        self.study, self.scale = study, scale
        names = [kind.name for kind in scale.corruptions]
        # (corruptions, 6), the number of each test among K, and the rows of each corruption
        self.numbers = np.insert(1 + np.arange(5 * len(names)).reshape(-1, 5), 0, 0, axis=1)
        self.kinds = {ALL: slice(None)} | {name: slice(i, i + 1) for i, name in enumerate(names)}
        self._values: dict[str, dict[str, Array]] = {}  # (rows of the resamples, K)
        for run in study.runs:
            tests = [replace(run, probabilities=p) for p in probabilities[run.name]]
            p = np.stack([study.probabilities(test) for test in tests])
            found = stats.resampled_metrics(study.test_resamples, p, areas=False)
            found["ece"] = resampled_ece(study.test_resamples, p)
            # Copies, because a view would keep the figures of all metrics and classes in memory.
            self._values[run.name] = {name: found[name].copy() for name in METRICS}

    def weights(self, kind: str) -> dict[str, Array]:
        """Return the weights (K,) of the tests in each figure of a corruption, or of `ALL`.

        The figures are the severities, their mean "1-5", and "5-0", the change from 0 to 5.
        """
        numbers = self.numbers[self.kinds[kind]]
        by_severity = np.eye(self.numbers.max() + 1)[numbers].mean(0)
        figures = {str(severity): by_severity[severity] for severity in SEVERITIES}
        return figures | {"1-5": by_severity[1:].mean(0), "5-0": by_severity[5] - by_severity[0]}

    def table(self) -> pd.DataFrame:
        """Return the metrics of each run, corruption and severity, as for stress.csv."""
        rows = [
            {
                "run": run.name, "condition": run.condition, "ratio": run.ratio,
                "seed": str(run.replicate), "corruption": kind.name, "severity": severity,
                "amount": kind.amount(severity, self.scale) if severity else None,
                "unit": kind.unit(self.scale),
                **{name: self._values[run.name][name][0, numbers[severity]] for name in METRICS},
            }
            for run in self.study.runs
            for kind, numbers in zip(self.scale.corruptions, self.numbers, strict=True)
            for severity in SEVERITIES
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def interval(self, condition: str, at: float, metric: str, tests: Array) -> Interval:
        """Return the interval of a metric of a condition at a ratio, with these `weights`."""
        runs = self.study.at(condition, at)
        resamples = self.study.resamples(self.study.seeds_of(runs))
        found = stats.interval(resamples, self._weighted(runs, metric, tests))
        return found.clipped(np.inf if metric == "cross_entropy" else 1.0)

    def difference(self, pair: Pair, tests: Array) -> Interval:
        """Return the difference in accuracy of two conditions, with these `weights`."""
        if pair.refusal:
            return Interval.undefined()
        a, b = (self._weighted(runs, "accuracy", tests) for runs in (pair.of_a, pair.of_b))
        return stats.difference(self.study.resamples(pair.seeds), a, b)

    def relative_error(self, pair: Pair, kind: str) -> Interval:
        """Return the mean corruption error of a relative to b, over one of `kinds`.

        The p-value is for the hypothesis that it is 1.
        """
        if pair.refusal:
            return Interval.undefined()
        tests = self.numbers[self.kinds[kind], 1:]
        a, b = (
            np.stack([1 - self._values[run.name]["accuracy"][:, tests] for run in runs], 1).sum(3)
            for runs in (pair.of_a, pair.of_b)
        )  # (rows, S, corruptions)

        def excess(rows: slice, seeds: Array) -> Array:
            own, other = ((of[rows] * seeds[..., None]).sum(1) for of in (a, b))
            return np.asarray(ratio(own, other, empty=np.nan).mean(1) - 1)

        found = calibrated_interval(self.study.resamples(pair.seeds), excess)
        estimate, low, high = (1 + x for x in (found.estimate, found.low, found.high))
        return replace(found, estimate=estimate, low=low, high=high)

    def _weighted(self, runs: Sequence[Run], metric: str, tests: Array) -> Array:
        return np.stack([self._values[run.name][metric] @ tests for run in runs], axis=1)
