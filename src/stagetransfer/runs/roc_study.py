"""ROC curves of finished runs: each class against the rest, conditions in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.errors import UserError
from stagetransfer.runs.reader import Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import (
    Curve,
    DeLong,
    Interval,
    delong,
    delong_difference,
    difference,
    holm,
    interval,
    mcclish,
    resampled_roc,
    roc,
    sentence,
)

Array = NDArray[np.float64]

GRID = np.linspace(0, 1, 201)  # of false-positive rates, where curves are averaged and drawn


@dataclass(frozen=True)
class Operation:
    """What is read from each curve.

    rates: false-positive rates in [0, 1] where the sensitivity is read. partial: the area left of
    this false-positive rate in (0, 1), if not None; standardised: by McClish.
    """

    rates: tuple[float, ...]
    partial: float | None = None
    standardised: bool = False

    @property
    def names(self) -> list[str]:
        """The figures, in the order of `measure`."""
        partial = "mcclish_auroc_to" if self.standardised else "auroc_to"
        areas = ["auroc", *([] if self.partial is None else [f"{partial}_{self.partial:g}"])]
        return areas + [f"sensitivity_at_{rate:g}" for rate in self.rates]

    def measure(self, curve: Curve) -> Array:
        """(R, F)."""
        areas = [curve.area()]
        if self.partial is not None:
            part = curve.area(self.partial)
            areas.append(mcclish(part, self.partial) if self.standardised else part)
        return np.concatenate([np.stack(areas, 1), curve.sensitivity_at(self.rates)], axis=1)


class RocStudy:
    """The curves of all runs of a study, class by class.

    positives: the classes that are positive in turn, against all others; None: with two classes
    the second, else all. `left_out` names those of which, or of whose rest, the test set has fewer
    than two images; `positives` may be left empty by that. ratios: those to look at; None: all.
    Raises UserError if a class is unknown.
    """

    def __init__(
        self,
        study: Study,
        operation: Operation,
        positives: Sequence[str] | None = None,
        ratios: Sequence[float] | None = None,
    ) -> None:
        self.study, self.operation = study, operation
        self.ratios = study.ratios if ratios is None else ratios
        classes = study.classes
        wanted = positives or (classes[1:] if len(classes) == 2 else classes)
        if unknown := [name for name in wanted if name not in classes]:
            raise UserError(f"--positive {unknown[0]}: none of the classes {', '.join(classes)}")
        support = np.bincount(study.labels, minlength=len(classes))
        enough = dict(zip(classes, np.minimum(support, support.sum() - support) > 1, strict=True))
        self.positives = [name for name in dict.fromkeys(wanted) if enough[name]]
        self.left_out = [name for name in dict.fromkeys(wanted) if not enough[name]]
        self._values: dict[tuple[str, str], Array] = {}

    def figures(self) -> pd.DataFrame:
        """Columns condition, ratio, class, figure, estimate, low, high, p, seeds, method: of the
        mean over seeds. method: bootstrap (of groups and seeds), or DeLong (of images alone)."""
        study, rows = self.study, []
        for ratio, condition, name in product(self.ratios, study.conditions, self.positives):
            runs = study.at(condition, ratio)
            if not runs:
                continue
            place = {"condition": condition, "ratio": ratio, "class": name}
            for figure, values in self._of(runs, name).items():
                found = interval(study.resamples(len(runs)), values)
                # The truth does not lie beyond [0, 1], so nothing is lost by cutting there; and
                # nobody asks whether it is 0.
                low, high = np.clip([found.low, found.high], 0, 1).tolist()
                found = replace(found, low=low, high=high, p_value=np.nan)
                rows.append(_row(place, figure, found, runs, "bootstrap"))
            second = delong(*self._scores(runs, name))
            rows.append(_row(place, "auroc", second, runs, "DeLong"))
        return pd.DataFrame(rows)

    def pairs(self) -> tuple[pd.DataFrame, list[str]]:
        """Each two conditions at each ratio, by the seeds that both have; and AUROC in words.

        Columns a, b, ratio, class, figure, estimate (a - b), low, high, p, seeds, method, p_holm,
        Holm's over the pairs at one ratio for one class, figure and method.
        """
        study, rows, areas = self.study, [], {}
        for ratio, (a, b), name in product(self.ratios, study.couples(), self.positives):
            of_a, of_b = ({run.seed: run for run in study.at(of, ratio)} for of in (a, b))
            shared = sorted(of_a.keys() & of_b.keys())
            if not shared:
                continue
            x, y = ([of[seed] for seed in shared] for of in (of_a, of_b))
            place = {"a": a, "b": b, "ratio": ratio, "class": name}
            values_x, values_y = self._of(x, name), self._of(y, name)
            for figure in self.operation.names:
                resamples = study.resamples(len(shared))
                found = difference(resamples, values_x[figure], values_y[figure])
                rows.append(_row(place, figure, found, x, "bootstrap"))
                if figure == "auroc":
                    areas[len(rows) - 1] = found
            positive, scores = self._scores(x, name)
            second = delong_difference(positive, scores, self._scores(y, name)[1])
            rows.append(_row(place, "auroc", second, x, "DeLong"))
        table = pd.DataFrame(rows)
        if rows:
            by = table.groupby(["ratio", "class", "figure", "method"])["p"]
            table["p_holm"] = by.transform(_holm)
        words = []
        for i, found in areas.items():
            row = rows[i]
            p_value = float(table["p_holm"][i])
            said = sentence(row["a"], row["b"], found, p_value=p_value, few=list(study.few))
            words.append(f"r = {row['ratio']:g}, AUROC of {row['class']}: {said}")
        return table, words

    def curves(self) -> pd.DataFrame:
        """Columns condition, ratio, class, false_positive_rate, sensitivity: the mean over seeds
        at each false-positive rate of GRID."""
        study, tables = self.study, []
        for ratio, condition, name in product(self.ratios, study.conditions, self.positives):
            if runs := study.at(condition, ratio):
                positive, scores = self._scores(runs, name)
                mean = np.mean([roc(positive, s).sensitivity_at(GRID)[0] for s in scores], axis=0)
                place = {"condition": condition, "ratio": ratio, "class": name}
                columns = {"false_positive_rate": GRID, "sensitivity": mean}
                tables.append(pd.DataFrame({**place, **columns}))
        return pd.concat(tables, ignore_index=True)

    def _of(self, runs: Sequence[Run], name: str) -> dict[str, Array]:
        """(1 + B + D, K) by figure."""
        for run in runs:
            if (run.name, name) not in self._values:
                found = resampled_roc(
                    self.study.resamples(1), *self._scores([run], name), self.operation.measure
                )
                self._values[run.name, name] = found[:, 0]
        stacked = np.stack([self._values[run.name, name] for run in runs], axis=1)
        return {figure: stacked[:, :, i] for i, figure in enumerate(self.operation.names)}

    def _scores(self, runs: Sequence[Run], name: str) -> tuple[NDArray[np.bool_], Array]:
        """Who is positive (n,), and the probabilities of it (K, n), in the study's order."""
        column = self.study.classes.index(name)
        scores = [
            run.probabilities[sorted(range(len(run.ids)), key=run.ids.__getitem__), column]
            for run in runs
        ]
        return self.study.labels == column, np.stack(scores)


def _row(
    place: dict[str, Any], figure: str, found: Interval | DeLong, runs: Sequence[Run], method: str
) -> dict[str, Any]:
    numbers = {"estimate": found.estimate, "low": found.low, "high": found.high, "p": found.p_value}
    seeds = " ".join(str(run.seed) for run in runs)
    return {**place, "figure": figure, **numbers, "seeds": seeds, "method": method}


def _holm(p_values: pd.Series[float]) -> Array:
    """Corrected; NaN where a p-value is not defined, which counts for nothing."""
    p = np.array(p_values, np.float64)
    defined = np.isfinite(p)
    p[defined] = holm(p[defined].tolist())
    return p


def rows_at(table: pd.DataFrame, condition: str, ratio: float, name: str) -> pd.DataFrame:
    chosen = (table["condition"] == condition) & (table["class"] == name)
    return table[chosen & (table["ratio"] == ratio)]
