"""From measures to tables: means with 95 % intervals over patients and seeds, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.explain import linear_cka
from stagetransfer.explain.compared_runs import Study
from stagetransfer.explain.measures import MEASURES, Measured, as_rows
from stagetransfer.models import LAYERS
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


class Tables:
    """The tables of a study, from the measures of its runs on the images at `positions`."""

    def __init__(
        self, study: Study, measured: Sequence[Measured], positions: NDArray[np.int64]
    ) -> None:
        self.study = study
        self.positions = positions
        self.by_condition: dict[str, list[Measured]] = {}
        for one in measured:
            self.by_condition.setdefault(one.run.condition, []).append(one)
        self._resamples: dict[int, Resamples] = {}

    def edges(self) -> tuple[pd.DataFrame, list[str]]:
        """The share of the pictures' energy on edges, a row a condition; and all pairs compared,
        in words, with Holm's correction."""
        rows = []
        for name, runs in self.by_condition.items():
            rows.append(
                {
                    "condition": name,
                    "images": len(self.positions),
                    "groups": self._groups,
                    **self._columns("edge_share", runs, lambda one: one.edges),
                    **self._columns("random_weights", runs, lambda one: one.random_edges),
                    "edge_area": float(np.nanmean(runs[0].area)),
                }
            )
        pairs, intervals = [], []
        for a, b in combinations(reversed(self.by_condition), 2):
            ours, others = self.by_condition[a], self.by_condition[b]
            if [one.run.seed for one in ours] == [one.run.seed for one in others]:
                first, second = (
                    self._means(ours, lambda one: one.edges),
                    self._means(others, lambda one: one.edges),
                )
                pairs.append((a, b))
                intervals.append(difference(self._drawn(len(ours)), first, second))
        adjusted = holm([result.p_value for result in intervals])
        words = [
            sentence(a, b, result, p_value=p)
            for (a, b), result, p in zip(pairs, intervals, adjusted, strict=True)
        ]
        return pd.DataFrame(rows), words

    def likeness(self) -> pd.DataFrame:
        """Each measure at each level of the cascade, a row a condition, level and measure."""
        rows = []
        for name, runs in self.by_condition.items():
            for level in runs[0].likeness:
                for what in MEASURES:
                    rows.append(
                        {
                            "condition": name,
                            "random_from": level,
                            "measure": what,
                            **self._columns(
                                "value",
                                runs,
                                lambda one, at=level, of=what: one.likeness[at][of],  # type: ignore[misc]
                            ),
                        }
                    )
        return pd.DataFrame(rows)

    def cka_between(self) -> pd.DataFrame:
        """CKA of each two conditions with the same seed, layer by layer: mean, least, greatest."""
        rows = []
        for a, b in combinations(self.by_condition, 2):
            pairs = [
                (one, other)
                for one in self.by_condition[a]
                for other in self.by_condition[b]
                if one.run.seed == other.run.seed
            ]
            for layer in LAYERS:
                values = [
                    linear_cka(one.features[layer], other.features[layer], unbiased=True)
                    for one, other in pairs
                ]
                rows.append({"a": a, "b": b, "layer": layer, **_spread(values)})
        return pd.DataFrame([row for row in rows if row["seeds"]])

    def cka_transfers(self) -> pd.DataFrame:
        """CKA before and after each transfer, layer by layer: how much of a layer is reused."""
        rows = pd.DataFrame(as_rows([one for runs in self.by_condition.values() for one in runs]))
        if rows.empty:
            return rows
        keys = ["condition", "before", "after", "layer"]
        return pd.DataFrame(
            [
                {**dict(zip(keys, key, strict=True)), **_spread(part["cka"].tolist())}
                for key, part in rows.groupby(keys, sort=False)
            ]
        )

    @property
    def _groups(self) -> int | None:
        groups = self.study.groups
        return None if groups is None else len(np.unique(groups[self.positions]))

    def _drawn(self, seeds: int) -> Resamples:
        if seeds not in self._resamples:
            groups = self.study.groups
            self._resamples[seeds] = resample(
                self.study.labels[self.positions],
                None if groups is None else groups[self.positions],
                self.study.classes,
                seeds=seeds,
            )
        return self._resamples[seeds]

    def _means(self, runs: Sequence[Measured], values: Callable[[Measured], Array]) -> Array:
        return weighted_means(self._drawn(len(runs)), np.stack([values(one) for one in runs]))

    def _columns(
        self, name: str, runs: Sequence[Measured], values: Callable[[Measured], Array]
    ) -> dict[str, Any]:
        result: Interval = interval(self._drawn(len(runs)), self._means(runs, values))
        return {
            name: result.estimate,
            f"{name}_low": result.low,
            f"{name}_high": result.high,
            "seeds": result.seeds,
        }


def weighted_means(resamples: Resamples, values: Array) -> Array:
    """Means over images of a figure known for each: (S, n) to (rows, S), a row of the resamples'
    weights each. Images without a value (NaN) are left out."""
    member = np.zeros((resamples.weights.shape[1], values.shape[1]))
    member[resamples.groups, np.arange(values.shape[1])] = 1
    known = np.isfinite(values)
    total = resamples.weights @ (member @ np.where(known, values, 0).T)
    count = resamples.weights @ (member @ known.T.astype(float))
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = np.array([value for value in values if np.isfinite(value)])
    if not len(found):
        return {"cka": float("nan"), "least": float("nan"), "greatest": float("nan"), "seeds": 0}
    return {
        "cka": float(found.mean()),
        "least": float(found.min()),
        "greatest": float(found.max()),
        "seeds": len(found),
    }
