"""All finished runs of a report as one study: one test set and one set of resamples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from stagetransfer import statistics as stats
from stagetransfer.names import CONDITIONS
from stagetransfer.runs.run import Run
from stagetransfer.runs.tuning_depth import split_depth
from stagetransfer.statistics import Interval, McNemar, Resamples
from stagetransfer.statistics.metrics import Array, Integers

PAPER_ORDER = tuple(CONDITIONS.values())


@dataclass(frozen=True)
class Pair:
    """Condition a compared with condition b, on the seeds that both have.

    Without a shared seed, `seeds`, `metrics` (the differences a - b), `mcnemar` (one test per seed)
    and `holm` are empty. `left_out` are the seeds that only one of the two has. `holm` are p-values
    with Holm's correction over the pairs at one ratio, of each metric whose interval is defined.
    """

    a: str
    b: str
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    metrics: dict[str, Interval]
    mcnemar: dict[int, McNemar]
    holm: dict[str, float]


class Study:
    """Comparable runs, and their metrics on every resample of the test set.

    The test images are sorted by id; their `groups` are None where none are known. `few` has the
    number of groups of each class with fewer than ten.
    """

    def __init__(self, runs: Sequence[Run], count: int = 2000) -> None:
        """Set up the study of one or more comparable runs; resamples are drawn when needed."""
        first = runs[0]
        self.count, self.classes, order = count, first.classes, _by_id(first)
        self.ids = [first.ids[i] for i in order]
        self.labels = first.labels[order]
        self.groups = np.array(first.groups)[order] if first.groups else None
        self.conditions = sorted({run.condition for run in runs}, key=condition_order)
        self.chains = {run.condition: run.chain for run in runs}
        self.ratios = sorted({run.ratio for run in runs})
        self.seeds = sorted({run.seed for run in runs})
        self.runs = sorted(runs, key=lambda run: (condition_order(run.condition), *run.place[1:]))
        self.few = stats.few_groups(self.labels, self.groups, self.classes)
        self._metrics: dict[str, dict[str, Array]] = {}
        self._resamples_by_seeds: dict[int, Resamples] = {}
        self._intervals: dict[tuple[str, float, str], Interval] = {}

    @property
    def main_ratio(self) -> float:
        """The greatest ratio, which is 1 in a complete sweep."""
        return self.ratios[-1]

    @property
    def num_groups(self) -> int:
        """The number of groups in the test set; of images where groups are unknown."""
        return len(self.labels) if self.groups is None else len(set(self.groups.tolist()))

    def at(self, condition: str, ratio: float | None = None) -> list[Run]:
        """Return the runs of a condition, at one ratio or at all, by ratio and seed."""
        of_condition = [run for run in self.runs if run.condition == condition]
        return [run for run in of_condition if ratio in (None, run.ratio)]

    def paired(self, a: str, b: str, ratio: float) -> tuple[list[Run], list[Run]]:
        """Return the runs of two conditions at a ratio, for the seeds that both have."""
        of_a, of_b = ({run.seed: run for run in self.at(name, ratio)} for name in (a, b))
        shared = sorted(of_a.keys() & of_b.keys())
        return [of_a[seed] for seed in shared], [of_b[seed] for seed in shared]

    def resamples(self, seeds: int) -> Resamples:
        """Return the resamples for this number of seeds, with the same test sets for any number.

        The seeds have a random state of their own, so that both draws are independent.
        """
        if seeds not in self._resamples_by_seeds:
            drawn = self._resample(seeds, random_state=1)
            self._resamples_by_seeds[seeds] = replace(self._test_resamples, seeds=drawn.seeds)
        return self._resamples_by_seeds[seeds]

    def values(self, runs: Sequence[Run], metric: str) -> Array:
        """Return a metric of K runs on every resample of the test set, (1 + B + D, K)."""
        return np.stack([self._resampled(run)[metric] for run in runs], axis=1)

    def probabilities(self, run: Run) -> Array:
        """Return the probabilities (n, C) of a run, its images in the order of `labels`."""
        return run.probabilities[_by_id(run)]

    def predictions(self, run: Run) -> Integers:
        """Return the predicted classes (n,) of a run, in the order of `labels`."""
        return np.asarray(self.probabilities(run).argmax(1))

    def interval(self, condition: str, ratio: float, metric: str) -> Interval:
        """Return the interval of the mean over seeds of a condition at a ratio where it has runs.

        It is clipped to the metric's range, which with two seeds it may exceed by far.
        """
        place = condition, ratio, metric
        if place not in self._intervals:
            runs = self.at(condition, ratio)
            result = stats.interval(self.resamples(len(runs)), self.values(runs, metric))
            self._intervals[place] = result.clipped(np.inf if metric == "cross_entropy" else 1.0)
        return self._intervals[place]

    def pairs(self, ratio: float, metrics: Sequence[str]) -> list[Pair]:
        """Return each two conditions at this ratio, later minus earlier, with Holm's correction."""
        pairs = [
            self.pair(a, b, ratio, metrics)
            for a, b in self.condition_pairs()
            if self.at(a, ratio) and self.at(b, ratio)
        ]
        compared = [pair for pair in pairs if pair.seeds]
        for metric in metrics:
            corrected = stats.holm([pair.metrics[metric].p_value for pair in compared])
            for pair, p_value in zip(compared, corrected, strict=True):
                if np.isfinite(p_value):
                    pair.holm[metric] = p_value
        return pairs

    def condition_pairs(self) -> Iterator[tuple[str, str]]:
        """Yield each two conditions, the later one first.

        Where a condition was tuned at several depths, only the deepest is compared with other
        conditions, and each other depth is compared with the deepest.
        """
        deepest = {split_depth(name)[0]: name for name in reversed(self.conditions)}
        for b, a in combinations(self.conditions, 2):
            if b in deepest.values() and deepest[split_depth(a)[0]] in (a, b):
                yield a, b

    def pair(self, a: str, b: str, ratio: float, metrics: Sequence[str]) -> Pair:
        """Return the comparison of two conditions at a ratio, without a correction."""
        runs_a, runs_b = self.paired(a, b, ratio)
        seeds = tuple(run.seed for run in runs_a)
        all_seeds = {run.seed for name in (a, b) for run in self.at(name, ratio)}
        result = Pair(a, b, seeds, tuple(sorted(all_seeds - {*seeds})), {}, {}, {})
        if not seeds:
            return result
        resamples = self.resamples(len(seeds))
        for metric in metrics:
            of_a, of_b = self.values(runs_a, metric), self.values(runs_b, metric)
            result.metrics[metric] = stats.difference(resamples, of_a, of_b)
        for x, y in zip(runs_a, runs_b, strict=True):
            predicted = self.predictions(x), self.predictions(y)
            result.mcnemar[x.seed] = stats.mcnemar(self.labels, *predicted)
        return result

    @cached_property
    def _test_resamples(self) -> Resamples:
        return self._resample(seeds=1, random_state=0)

    def _resample(self, seeds: int, random_state: int) -> Resamples:
        images = self.labels, self.groups, self.classes
        return stats.resample(*images, seeds=seeds, count=self.count, random_state=random_state)

    def _resampled(self, run: Run) -> dict[str, Array]:
        if run.name not in self._metrics:
            values = stats.resampled_metrics(self._test_resamples, self.probabilities(run)[None])
            self._metrics[run.name] = {name: value[:, 0] for name, value in values.items()}
        return self._metrics[run.name]


def condition_order(condition: str) -> tuple[int, str]:
    """Return a sort key: the paper's conditions first, each with its depths, then by name."""
    base = split_depth(condition)[0]
    return (*PAPER_ORDER, base).index(base), condition


def _by_id(run: Run) -> list[int]:
    return sorted(range(len(run.ids)), key=run.ids.__getitem__)
