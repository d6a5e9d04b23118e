"""Tables of the measures: means with 95 % intervals over patients and seeds, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.explain.cka import linear_cka
from stagetransfer.explain.compared_runs import ComparedRuns
from stagetransfer.explain.run_measures import SIMILARITY_MEASURES, RunMeasures
from stagetransfer.models import LAYERS
from stagetransfer.statistics import (
    Resamples,
    difference,
    holm,
    interval,
    resample,
    sentence,
)

Array = NDArray[np.float64]
Values = Callable[[RunMeasures], Array]
"""Returns one measure of a run, (N,)."""


class MeasureTables:
    """The tables of compared runs.

    Args:
        measures: of each run, on the same images.
        positions: of these images in the test set.
    """

    def __init__(
        self,
        compared: ComparedRuns,
        measures: Sequence[RunMeasures],
        positions: NDArray[np.int64],
    ) -> None:
        self._by_condition: dict[str, list[RunMeasures]] = {}
        for one in measures:
            self._by_condition.setdefault(one.run.condition, []).append(one)
        self._labels = compared.labels[positions]
        self._groups = None if compared.groups is None else compared.groups[positions]
        self._classes = compared.classes
        self._resamples: dict[int, Resamples] = {}

    def edges(self) -> pd.DataFrame:
        """Return the share of the maps' energy on edges, one row per condition."""
        groups = None if self._groups is None else len(np.unique(self._groups))
        return pd.DataFrame(
            [
                {
                    "condition": name,
                    "images": len(self._labels),
                    "groups": groups,
                    **self._columns("edge_share", runs, lambda one: one.edges),
                    **self._columns("random_weights", runs, lambda one: one.random_edges),
                    "edge_area": float(np.nanmean(runs[0].edge_area)),
                }
                for name, runs in self._by_condition.items()
            ]
        )

    def edge_comparisons(self) -> list[str]:
        """Return a sentence per pair of conditions with the same seeds, with Holm's correction."""
        pairs, intervals = [], []
        for a, b in combinations(reversed(self._by_condition), 2):
            first, second = self._by_condition[a], self._by_condition[b]
            if [one.run.seed for one in first] == [one.run.seed for one in second]:
                means = [self._means(runs, lambda one: one.edges) for runs in (first, second)]
                pairs.append((a, b))
                intervals.append(difference(self._resampled(len(first)), *means))
        adjusted = holm([result.p_value for result in intervals])
        return [
            sentence(a, b, result, p_value=p)
            for (a, b), result, p in zip(pairs, intervals, adjusted, strict=True)
        ]

    def similarity(self) -> pd.DataFrame:
        """Return each similarity measure at each level of the cascade, one row per condition,
        level and measure."""

        def values(level: str, measure: str) -> Values:
            return lambda one: one.similarity[level][measure]

        return pd.DataFrame(
            [
                {
                    "condition": name,
                    "random_from": level,
                    "measure": measure,
                    **self._columns("value", runs, values(level, measure)),
                }
                for name, runs in self._by_condition.items()
                for level in runs[0].similarity
                for measure in SIMILARITY_MEASURES
            ]
        )

    def cka_between(self) -> pd.DataFrame:
        """Return the CKA of each pair of conditions by layer, over runs with the same seed."""
        return _spread(
            [
                {
                    "a": a,
                    "b": b,
                    "layer": layer,
                    "cka": linear_cka(one.features[layer], other.features[layer], unbiased=True),
                }
                for a, b in combinations(self._by_condition, 2)
                for layer in LAYERS
                for one in self._by_condition[a]
                for other in self._by_condition[b]
                if one.run.seed == other.run.seed
            ]
        ).query("seeds > 0")

    def cka_transfers(self) -> pd.DataFrame:
        """Return the CKA before and after each transfer by layer: how much a layer is reused."""
        return _spread(
            [
                {"condition": name, "before": before, "after": after, "layer": layer, "cka": cka}
                for name, runs in self._by_condition.items()
                for one in runs
                for before, after, layer, cka in one.transfers
            ]
        )

    def _resampled(self, seeds: int) -> Resamples:
        if seeds not in self._resamples:
            self._resamples[seeds] = resample(
                self._labels, self._groups, self._classes, seeds=seeds
            )
        return self._resamples[seeds]

    def _means(self, runs: Sequence[RunMeasures], values: Values) -> Array:
        return weighted_means(self._resampled(len(runs)), np.stack([values(one) for one in runs]))

    def _columns(self, name: str, runs: Sequence[RunMeasures], values: Values) -> dict[str, Any]:
        result = interval(self._resampled(len(runs)), self._means(runs, values))
        return {
            name: result.estimate,
            f"{name}_low": result.low,
            f"{name}_high": result.high,
            "seeds": result.seeds,
        }


def weighted_means(resamples: Resamples, values: Array) -> Array:
    """Return the means of values (S, n) over the images in each resample: (rows, S).

    Images whose value is NaN are left out.
    """
    member = np.zeros((resamples.weights.shape[1], values.shape[1]))
    member[resamples.groups, np.arange(values.shape[1])] = 1
    known = np.isfinite(values)
    total = resamples.weights @ (member @ np.where(known, values, 0).T)
    count = resamples.weights @ (member @ known.T.astype(float))
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))


def _spread(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Summarise column `cka` over the rows that agree in all others: its mean and its range.

    The columns are `cka` (mean), `least`, `greatest` and `seeds`, the number of defined values.
    """
    if not rows:
        return pd.DataFrame({"seeds": []})
    table = pd.DataFrame(rows)
    keys = [name for name in table if name != "cka"]
    return (
        table.groupby(keys, sort=False)["cka"]
        .agg(cka="mean", least="min", greatest="max", seeds="count")
        .reset_index()
    )
