"""Tables of the measures: means with 95 % intervals over patients and seeds, and comparisons."""

import functools
from collections.abc import Sequence
from itertools import combinations, groupby, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.explain.compared_runs import ComparedRuns
from stagetransfer.explain.run_measures import SIMILARITY_MEASURES, RunMeasures
from stagetransfer.explain.similarity import linear_cka
from stagetransfer.statistics import (
    Interval,
    Resamples,
    difference,
    holm,
    interval,
    resample,
    sentence,
)

Array = NDArray[np.float64]


class MeasureTables:
    """The tables of compared runs, from each run's measures on the test images at `positions`."""

    def __init__(
        self, compared: ComparedRuns, measures: Sequence[RunMeasures], positions: NDArray[np.int64]
    ) -> None:
        by_condition = groupby(measures, lambda one: one.run.condition)
        self._by_condition = {name: list(runs) for name, runs in by_condition}
        self._failures = compared.failures
        self._labels = compared.labels[positions]
        self._groups = None if compared.groups is None else compared.groups[positions]
        # One stratum: a mean over a few images needs no image of each class in each resample.
        images = np.zeros(len(positions), np.int64), self._groups, ["image"]
        self._resampled = functools.cache(functools.partial(resample, *images))

    def edges(self) -> pd.DataFrame:
        """Return the share of the maps' energy on edges, one row per condition."""
        groups = None if self._groups is None else len(np.unique(self._groups))
        return pd.DataFrame(
            [
                {
                    "condition": name,
                    "images": len(self._labels),
                    "groups": groups,
                    **self._columns("edge_share", [one.edges for one in runs]),
                    **self._columns("random_weights", [one.random_edges for one in runs]),
                    "edge_area": float(np.nanmean(runs[0].edge_area)),
                }
                for name, runs in self._by_condition.items()
            ]
        )

    def edge_comparisons(self) -> list[str]:
        """Return a sentence per pair of conditions, with Holm's correction over all pairs."""
        pairs = []
        for a, b in combinations(reversed(self._by_condition), 2):
            first, second = self._by_condition[a], self._by_condition[b]
            refusal, result = self._refusal(a, b), Interval.undefined()
            if [one.run.seed for one in first] != [one.run.seed for one in second]:
                refusal = refusal or "their seeds differ"
            if not refusal:
                means = [self._means([one.edges for one in runs]) for runs in (first, second)]
                result = difference(self._resampled(seeds=len(first)), *means)
            pairs.append((a, b, result, refusal))
        adjusted = holm([result.p_value for _, _, result, _ in pairs], len(pairs))
        return [
            sentence(a, b, result, p_value=p, refusal=refusal)
            for (a, b, result, refusal), p in zip(pairs, adjusted, strict=True)
        ]

    def similarity(self) -> pd.DataFrame:
        """Return one row per condition, level of the cascade and similarity measure."""
        rows = []
        for name, runs in self._by_condition.items():
            for level, measure in product(runs[0].similarity, SIMILARITY_MEASURES):
                keys = {"condition": name, "random_from": level, "measure": measure}
                values = [one.similarity[level][measure] for one in runs]
                rows.append({**keys, **self._columns("value", values)})
        return pd.DataFrame(rows)

    def cka_between(self) -> pd.DataFrame:
        """Return the CKA of each pair of conditions by block, over runs with the same seed.

        As everywhere, conditions with runs that did not learn are not compared.
        """
        return _spread(
            [
                {
                    "a": a,
                    "b": b,
                    "layer": block,
                    "cka": linear_cka(one.features[block], other.features[block]),
                }
                for a, b in combinations(self._by_condition, 2)
                if not self._refusal(a, b)
                for one in self._by_condition[a]
                for other in self._by_condition[b]
                if one.run.seed == other.run.seed
                for block in one.features
            ]
        ).query("seeds > 0")

    def cka_transfers(self) -> pd.DataFrame:
        """Return the CKA before and after each transfer by block: how much a block is reused."""
        return _spread(
            [
                {"condition": name, "before": before, "after": after, "layer": block, "cka": cka}
                for name, runs in self._by_condition.items()
                for one in runs
                for before, after, block, cka in one.transfers
            ]
        )

    def _refusal(self, a: str, b: str) -> str:
        """Return why the runs of two conditions are not compared, or an empty text."""
        return "; ".join(f"{x} {self._failures[x]}" for x in (a, b) if x in self._failures)

    def _means(self, values: Sequence[Array]) -> Array:
        return weighted_means(self._resampled(seeds=len(values)), np.stack(values))

    def _columns(self, name: str, values: Sequence[Array]) -> dict[str, Any]:
        result = interval(self._resampled(seeds=len(values)), self._means(values))
        return {**result.columns(name), "seeds": result.seeds}


def weighted_means(resamples: Resamples, values: Array) -> Array:
    """Return the means (rows, S) of values (S, n) without NaN over the images of each resample."""
    member = np.zeros((resamples.weights.shape[1], values.shape[1]))
    member[resamples.groups, np.arange(values.shape[1])] = 1
    known = np.isfinite(values)
    total = resamples.weights @ (member @ np.where(known, values, 0).T)
    count = resamples.weights @ (member @ known.T.astype(float))
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))


def _spread(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the mean (`cka`), `least`, `greatest` and number (`seeds`) of the defined values of
    `cka` over the rows that agree in all other columns."""
    if not rows:
        return pd.DataFrame({"seeds": []})
    table = pd.DataFrame(rows)
    values = table.groupby([name for name in table if name != "cka"], sort=False)["cka"]
    return values.agg(cka="mean", least="min", greatest="max", seeds="count").reset_index()
