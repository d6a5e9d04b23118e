"""All finished runs of a report as one study: one test set, one set of resamples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stagetransfer.names import CONDITIONS
from stagetransfer.runs.reader import Run
from stagetransfer.runs.tuning_depth import parted
from stagetransfer.statistics import (
    Interval,
    McNemar,
    Resamples,
    difference,
    few_groups,
    holm,
    interval,
    mcnemar,
    resample,
    resampled_figures,
)

Array = NDArray[np.float64]

PAPER_ORDER = tuple(CONDITIONS.values())


@dataclass(frozen=True)
class Pair:
    """Condition a against b, by the seeds that both have; None and empty if they share none.

    figures: each figure's difference a - b. mcnemar: a test a seed. holm: corrected p-values, over
    the pairs of one ratio, a figure at a time; NaN where the interval is not defined.
    """

    a: str
    b: str
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    figures: dict[str, Interval]
    mcnemar: dict[int, McNemar]
    holm: dict[str, float]


class Study:
    """The runs in order, and their figures on every resample.

    runs: comparable (`check_comparable`), one or more. count: how many resamples.
    """

    def __init__(self, runs: Sequence[Run], count: int = 2000) -> None:
        first = runs[0]
        self.count = count
        self.classes = first.classes
        order = sorted(range(len(first.ids)), key=first.ids.__getitem__)
        self.ids = [first.ids[i] for i in order]
        self.labels = first.labels[order]
        self.groups = np.array(first.groups)[order] if first.groups else None
        self.conditions = sorted({run.condition for run in runs}, key=rank)
        self.chains = {run.condition: run.chain for run in runs}
        self.ratios = sorted({run.ratio for run in runs})
        self.seeds = sorted({run.seed for run in runs})
        self.runs = sorted(runs, key=lambda run: (rank(run.condition), run.ratio, run.seed))
        self.few = few_groups(self.labels, self.groups, self.classes)
        self._values: dict[str, dict[str, Array]] = {}
        self._of_seeds: dict[int, Resamples] = {}
        self._intervals: dict[tuple[str, float, str], Interval] = {}

    @property
    def main_ratio(self) -> float:
        """r = 1, or the greatest there is."""
        return self.ratios[-1]

    @property
    def num_groups(self) -> int:
        """Groups of the test set; its images where groups are unknown."""
        return len(self.labels) if self.groups is None else len(set(self.groups.tolist()))

    def at(self, condition: str, ratio: float | None = None) -> list[Run]:
        """The runs of a condition, at one ratio or at all, by seed within ratio."""
        return [
            run
            for run in self.runs
            if run.condition == condition and (ratio is None or run.ratio == ratio)
        ]

    def resamples(self, seeds: int) -> Resamples:
        """The study's resamples for so many seeds; test sets are resampled alike for any number.

        Seeds come from a random state of their own, so that both draws are independent.
        """
        if seeds not in self._of_seeds:
            drawn = resample(
                *(self.labels, self.groups, self.classes),
                seeds=seeds,
                count=self.count,
                random_state=1,
            )
            self._of_seeds[seeds] = replace(self._resamples, seeds=drawn.seeds)
        return self._of_seeds[seeds]

    def values(self, runs: Sequence[Run], figure: str) -> Array:
        """(1 + B + D, K): a figure of K runs on every resample of the test set."""
        return np.stack([self._figures(run)[figure] for run in runs], axis=1)

    def predictions(self, run: Run) -> NDArray[np.int64]:
        """(n,) in the order of `labels`."""
        return np.asarray(self._probabilities(run).argmax(1))

    def interval(self, condition: str, ratio: float, figure: str) -> Interval:
        """Of the mean over the seeds of a condition that has runs at this ratio.

        Cut to the values that the figure can take, which with two seeds it may exceed by far: the
        truth does not lie beyond, so nothing is lost.
        """
        place = condition, ratio, figure
        if place in self._intervals:
            return self._intervals[place]
        runs = self.at(condition, ratio)
        whole = interval(self.resamples(len(runs)), self.values(runs, figure))
        most = np.inf if figure == "cross_entropy" else 1.0
        low, high = (float(np.clip(end, 0, most)) for end in (whole.low, whole.high))
        self._intervals[place] = replace(whole, low=low, high=high)
        return self._intervals[place]

    def pairs(self, ratio: float, figures: Sequence[str]) -> list[Pair]:
        """Each two conditions at this ratio, the later less the earlier, with Holm's correction."""
        pairs = [
            self.pair(a, b, ratio, figures) for a, b in self.couples() if self._both(a, b, ratio)
        ]
        for figure in figures:
            defined = [p for p in pairs if figure in p.figures]
            defined = [p for p in defined if np.isfinite(p.figures[figure].p_value)]
            corrected = holm([pair.figures[figure].p_value for pair in defined])
            for pair, p_value in zip(defined, corrected, strict=True):
                pair.holm[figure] = p_value
        return pairs

    def couples(self) -> Iterator[tuple[str, str]]:
        """Each two conditions: the later one first. Where a condition was tuned at several depths,
        only the deepest meets the other conditions, and each of the others meets the deepest."""
        deepest: dict[str, str] = {}
        for name in self.conditions:
            deepest.setdefault(parted(name)[0], name)
        for i, b in enumerate(self.conditions):
            for a in self.conditions[i + 1 :]:
                if b in deepest.values() and deepest[parted(a)[0]] in (a, b):
                    yield a, b

    def _both(self, a: str, b: str, ratio: float) -> bool:
        return bool(self.at(a, ratio) and self.at(b, ratio))

    def pair(self, a: str, b: str, ratio: float, figures: Sequence[str]) -> Pair:
        """Two conditions at a ratio, by the seeds that both have; not yet corrected."""
        of_a, of_b = ({run.seed: run for run in self.at(name, ratio)} for name in (a, b))
        shared = sorted(of_a.keys() & of_b.keys())
        left_out = tuple(sorted(of_a.keys() ^ of_b.keys()))
        if not shared:
            return Pair(a, b, (), left_out, {}, {}, {})
        resamples = self.resamples(len(shared))
        x, y = ([of[seed] for seed in shared] for of in (of_a, of_b))
        return Pair(
            a,
            b,
            tuple(shared),
            left_out,
            {
                name: difference(resamples, self.values(x, name), self.values(y, name))
                for name in figures
            },
            {
                seed: mcnemar(self.labels, self.predictions(i), self.predictions(j))
                for seed, i, j in zip(shared, x, y, strict=True)
            },
            {},
        )

    @cached_property
    def _resamples(self) -> Resamples:
        return resample(self.labels, self.groups, self.classes, seeds=1, count=self.count)

    def _figures(self, run: Run) -> dict[str, Array]:
        if run.name not in self._values:
            values = resampled_figures(self._resamples, self._probabilities(run)[None])
            self._values[run.name] = {name: value[:, 0] for name, value in values.items()}
        return self._values[run.name]

    def _probabilities(self, run: Run) -> Array:
        order = sorted(range(len(run.ids)), key=run.ids.__getitem__)
        return run.probabilities[order]


def rank(condition: str) -> tuple[int, str]:
    """Sorts conditions: the paper's four first, each with its depths, then by name."""
    base = parted(condition)[0]
    known = base in PAPER_ORDER
    return (PAPER_ORDER.index(base) if known else len(PAPER_ORDER)), condition
