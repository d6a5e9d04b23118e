"""All finished runs of a report as one study: one test set and one set of resamples."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product
from typing import Any

import numpy as np

from stagetransfer import statistics as stats
from stagetransfer.names import CONDITIONS
from stagetransfer.runs.run import Replicate, Run
from stagetransfer.runs.training_shares import RATIO, Share
from stagetransfer.runs.tuning_depth import depth_names, split_depth
from stagetransfer.runs.verdict import why_not_compared
from stagetransfer.statistics import Interval, McNemar, Resamples
from stagetransfer.statistics.metrics import Array, Integers

PAPER_ORDER = tuple(CONDITIONS.values())


@dataclass(frozen=True)
class Pair:
    """Condition a compared with condition b, on the runs that agree in ratio and seeds.

    Every comparison of conditions begins here. `of_a` and `of_b` are these runs, in the same order,
    and `left_out` the seeds of the runs that only one of the two has. If `refusal` is not empty, it
    says why the runs must not be compared; a comparison with a run that did not learn would say
    nothing about conditions. `metrics` are the differences a - b, not defined after a refusal.
    `mcnemar` has one test per seed, and `holm` the p-values of `correct`.
    """

    a: str
    b: str
    of_a: list[Run]
    of_b: list[Run]
    seeds: tuple[Replicate, ...]
    left_out: tuple[Replicate, ...]
    refusal: str
    metrics: dict[str, Interval] = field(default_factory=dict)
    mcnemar: dict[Replicate, McNemar] = field(default_factory=dict)
    holm: dict[str, float] = field(default_factory=dict)

    def compare(self, metrics: Iterable[str], difference: Callable[[str], Interval]) -> None:
        """Enter the difference in each metric, unless the pair must not be compared."""
        for name in metrics:
            self.metrics[name] = Interval.undefined() if self.refusal else difference(name)


class Study:
    """Comparable runs, and their metrics on every resample of the test set.

    The test images are sorted by id; their `groups` are None where none are known. `few` has the
    number of groups of each class with fewer than ten. `asked` are the `conditions` whose pairs are
    the question of the study, also those without a run; `asked_for` tells whether the user named
    them, or they are those of the runs. `with_paper` tells whether the figures of Suzuki et al.
    2018 are shown beside them: only if the data have the layout of theirs, unless it is set. The
    ratios of the runs are shares of `share`. `crossed` tells whether the source seed varies on its
    own: some seed has runs with several source seeds. Resamples are drawn when needed.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        count: int = 2000,
        conditions: Sequence[str] | None = None,
        share: Share = RATIO,
    ) -> None:
        first = runs[0]
        self.count, self.share = count, share
        self.classes, order = first.classes, _by_id(first)
        self.ids = [first.ids[i] for i in order]
        self.labels = first.labels[order]
        self.groups = np.array(first.groups)[order] if first.groups else None
        self.runs = sorted(runs, key=run_order)
        self.conditions = list(dict.fromkeys(run.condition for run in self.runs))
        self.asked_for, self.asked = bool(conditions), list(conditions or self.conditions)
        self.chains = {run.condition: run.chain for run in runs}
        self.ratios = sorted({run.ratio for run in runs})
        self.seeds = sorted({run.seed for run in runs})
        self.few = stats.few_groups(self.labels, self.groups, self.classes)
        pairs = {run.replicate for run in runs if run.replicate.source_seed is not None}
        self.crossed = len(pairs) > len({seed for seed, _ in pairs})
        layouts = {run.config.get(f"domain.{run.chain[-1]}.layout") for run in runs}
        self.with_paper = layouts == {"dld"} and share == RATIO
        self._metrics: dict[str, dict[str, Array]] = {}
        self._resamples: dict[tuple[Replicate, ...], Resamples] = {}
        self._intervals: dict[tuple[str, float, str], Interval] = {}

    @property
    def absent(self) -> list[str]:
        """The classes without test images, which no average includes."""
        return [name for i, name in enumerate(self.classes) if i not in self.labels]

    @property
    def alone(self) -> list[str]:
        """The classes that have a single group: how their groups differ is unknown."""
        return [name for name, number in self.few.items() if number == 1]

    @property
    def without_spread(self) -> bool:
        """Whether each class has a single group, so that no interval can be estimated."""
        return len(self.alone) + len(self.absent) == len(self.classes)

    @property
    def main_ratio(self) -> float:
        """The greatest ratio, which is 1 in a complete sweep."""
        return self.ratios[-1]

    @property
    def too_few(self) -> str:
        """Of what the test set has too few for reliable intervals, "groups in HCM (6)", or ""."""
        unit = "images" if self.groups is None else "groups"
        few = ", ".join(f"{name} ({number})" for name, number in self.few.items())
        return f"{unit} in {few}" if few else ""

    @property
    def num_groups(self) -> int:
        """The number of groups in the test set; of images where groups are unknown."""
        return len(self.labels) if self.groups is None else len(set(self.groups.tolist()))

    def at(self, condition: str, ratio: float | None = None) -> list[Run]:
        """Return the runs of a condition, at one ratio or at all, by ratio and seed."""
        of_condition = [run for run in self.runs if run.condition == condition]
        return [run for run in of_condition if ratio in (None, run.ratio)]

    def seeds_of(self, runs: Sequence[Run]) -> tuple[Replicate, ...]:
        """Return the seeds of each run, with the source seed where it varies on its own."""
        return tuple(run.replicate if self.crossed else Replicate(run.seed) for run in runs)

    def match(self, a: str, b: str, ratio: float | None = None) -> Pair:
        """Match the runs of two conditions at a ratio, or at all ratios, by ratio and seeds.

        If source seeds vary, a run from scratch is matched with each source seed of its seed.
        """
        found = {name: self.at(name, ratio) for name in (a, b)}
        matched = [
            (shared, x, y)
            for x, y in product(*found.values())
            if x.ratio == y.ratio and (shared := _shared(*self.seeds_of((x, y))))
        ]
        matched.sort(key=lambda match: (match[1].ratio, *map(_or_first, match[0])))
        of_a, of_b = [x for _, x, _ in matched], [y for _, _, y in matched]
        used = {run.name for run in (*of_a, *of_b)}
        left_out = [run for runs in found.values() for run in runs if run.name not in used]
        at = "" if ratio is None else f" at r = {ratio:g}"
        absent = [f"{name} has no finished run{at}" for name, runs in found.items() if not runs]
        refusal = "; ".join(absent) or ("" if matched else "no seed in common")
        refusal = refusal or why_not_compared((a, of_a), (b, of_b))
        seeds = tuple(shared for shared, _, _ in matched)
        return Pair(a, b, of_a, of_b, seeds, self.seeds_of(left_out), refusal)

    def resamples(self, seeds: Sequence[Replicate]) -> Resamples:
        """Return the resamples for runs with these seeds, with the same test sets for any of them.

        Seeds and source seeds have random states of their own, so that all draws are independent.
        """
        if (key := tuple(seeds)) not in self._resamples:
            factors = zip(*(map(_or_first, of) for of in key), strict=True)
            self._resamples[key] = stats.cross_seeds(self.test_resamples, *map(list, factors))
        return self._resamples[key]

    def values(self, runs: Sequence[Run], metric: str) -> Array:
        """Return a metric of K runs on every resample of the test set, (1 + B + D, K)."""
        return np.stack([self._resampled(run, metric) for run in runs], axis=1)

    def ratio_series(
        self, seeds: Sequence[Replicate], runs: Sequence[Run], metric: str
    ) -> tuple[Resamples, stats.RatioSeries]:
        """Return the resamples of the distinct seeds, and the runs, each at its ratio and seed."""
        distinct = list(dict.fromkeys(seeds))
        positions = np.array([distinct.index(of) for of in seeds])
        ratios = np.array([run.ratio for run in runs])
        series = stats.RatioSeries(self.values(runs, metric), ratios, positions)
        return self.resamples(distinct), series

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
            resamples = self.resamples(self.seeds_of(runs))
            result = stats.interval(resamples, self.values(runs, metric))
            self._intervals[place] = result.clipped(np.inf if metric == "cross_entropy" else 1.0)
        return self._intervals[place]

    def pairs(self, ratio: float, metrics: Sequence[str]) -> list[Pair]:
        """Return each two conditions at this ratio, later minus earlier, with Holm's correction.

        The correction counts all pairs of the conditions that were asked for, also those that
        cannot be compared: what else lies in the folder must not change a p-value.
        """
        pairs = [self.pair(a, b, ratio, metrics) for a, b in self.condition_pairs()]
        correct(pairs, metrics)
        return pairs

    def condition_pairs(self) -> Iterator[tuple[str, str]]:
        """Yield each two conditions, the later one first.

        Where a condition was tuned at several depths, only the deepest is compared with other
        conditions, and each other depth is compared with the deepest.
        """
        deepest = {split_depth(name)[0]: name for name in reversed(self.asked)}
        for b, a in combinations(self.asked, 2):
            if b in deepest.values() and deepest[split_depth(a)[0]] in (a, b):
                yield a, b

    def pair(self, a: str, b: str, ratio: float, metrics: Sequence[str]) -> Pair:
        """Return the comparison of two conditions at a ratio, without a correction."""
        pair = self.match(a, b, ratio)

        def difference(metric: str) -> Interval:
            of_a, of_b = (self.values(runs, metric) for runs in (pair.of_a, pair.of_b))
            highest = np.inf if metric == "cross_entropy" else 1.0
            found = stats.difference(self.resamples(pair.seeds), of_a, of_b)
            return found.clipped(highest, -highest)

        pair.compare(metrics, difference)
        if not pair.refusal and not self.without_spread:
            for seeds, x, y in zip(pair.seeds, pair.of_a, pair.of_b, strict=True):
                predicted = self.predictions(x), self.predictions(y)
                pair.mcnemar[seeds] = stats.mcnemar(self.labels, *predicted)
        return pair

    @cached_property
    def test_resamples(self) -> Resamples:
        """The resamples of the test set, for one run."""
        images = self.labels, self.groups, self.classes
        return stats.resample(*images, seeds=1, count=self.count, random_state=0)

    def _resampled(self, run: Run, metric: str) -> Array:
        found = self._metrics.setdefault(run.name, {})
        if metric not in found:
            areas, p = metric.startswith("auroc"), self.probabilities(run)[None]
            values = stats.resampled_metrics(self.test_resamples, p, areas=areas)
            found |= {name: value[:, 0] for name, value in values.items()}
        return found[metric]


def run_order(run: Run) -> tuple[Any, ...]:
    """Return a sort key: by condition, ratio and seeds."""
    seeds = map(_or_first, run.replicate)
    return *condition_order(run.condition, run.blocks), run.ratio, *seeds


def correct(pairs: Sequence[Pair], metrics: Sequence[str]) -> None:
    """Enter Holm's p-values over these pairs, also those not compared, for each metric."""
    for metric in metrics:
        p_values = stats.holm([pair.metrics[metric].p_value for pair in pairs], len(pairs))
        for pair, p_value in zip(pairs, p_values, strict=True):
            if np.isfinite(p_value):
                pair.holm[metric] = p_value


def condition_order(condition: str, blocks: Iterable[str] = ()) -> tuple[int, str, int, str]:
    """Return a sort key: the paper's conditions first, then by name; each by its depths."""
    base, depth = split_depth(condition)
    depths = depth_names(blocks)
    place = depths.index(depth) if depth in depths else len(depths) * (depth is not None)
    return (*PAPER_ORDER, base).index(base), base, place, condition


def _shared(a: Replicate, b: Replicate) -> Replicate | None:
    """Return the seeds that two runs share, or None; a run without source seed fits any of them."""
    if a.seed != b.seed or (a.source_seed != b.source_seed and None not in (*a, *b)):
        return None
    return b if a.source_seed is None else a


def _or_first(seed: int | None) -> int:
    """Return a seed that can be sorted; None comes before all others."""
    return -1 if seed is None else seed


def _by_id(run: Run) -> list[int]:
    return sorted(range(len(run.ids)), key=run.ids.__getitem__)
