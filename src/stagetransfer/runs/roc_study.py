"""ROC curves of a study: each class against the rest, and conditions compared in pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer import statistics as stats
from stagetransfer.errors import UserError
from stagetransfer.runs.run import Replicate, Run
from stagetransfer.runs.study import Pair, Study
from stagetransfer.statistics import Curve, Interval
from stagetransfer.statistics.metrics import Array

GRID = np.linspace(0, 1, 201)  # false-positive rates at which curves are averaged and drawn
ONE_PATIENT = "all images of a side are of one patient"
DELONG = "DeLong"  # the area with the interval of images alone, beside that of the bootstrap


@dataclass(frozen=True)
class RocMetrics:
    """The metrics that are read from each ROC curve: its area, and the sensitivities at `rates`.

    If the false-positive rate `partial` is not None, also the area left of it, which may be
    `standardised` by McClish.
    """

    rates: tuple[float, ...]
    partial: float | None = None
    standardised: bool = False

    @property
    def names(self) -> list[str]:
        """The names of the metrics, in the order of `measure`."""
        partial = "mcclish_auroc_to" if self.standardised else "auroc_to"
        areas = ["auroc", *([] if self.partial is None else [f"{partial}_{self.partial:g}"])]
        return areas + [f"sensitivity_at_{rate:g}" for rate in self.rates]

    def measure(self, curve: Curve) -> Array:
        """Return the M metrics of R curves, (R, M)."""
        areas = [curve.area()]
        if self.partial is not None:
            part = curve.area(self.partial)
            areas.append(stats.mcclish(part, self.partial) if self.standardised else part)
        return np.concatenate([np.stack(areas, 1), curve.sensitivity_at(self.rates)], axis=1)


class RocStudy:
    """The ROC curves of all runs of a study at the `ratios`, each computed when first needed.

    `positives` are the classes that are positive in turn, against all others: all classes, or the
    second of two, unless they are given. Those of which, or of whose rest, the test set has fewer
    than two images are `left_out`.
    """

    def __init__(
        self,
        study: Study,
        metrics: RocMetrics,
        positives: Sequence[str] | None = None,
        ratios: Sequence[float] | None = None,
    ) -> None:
        self.study, self.metrics = study, metrics
        self.ratios = study.ratios if ratios is None else ratios
        classes = study.classes
        wanted = positives or (classes[1:] if len(classes) == 2 else classes)
        if unknown := [name for name in wanted if name not in classes]:
            known = f"the classes {', '.join(classes)}"
            raise UserError(f"--positive {unknown[0]}: none of {known}. Give one of them.")
        support = np.bincount(study.labels, minlength=len(classes))
        enough = dict(zip(classes, np.minimum(support, support.sum() - support) > 1, strict=True))
        self.positives = [name for name in dict.fromkeys(wanted) if enough[name]]
        self.left_out = [name for name in dict.fromkeys(wanted) if not enough[name]]
        self._values: dict[tuple[str, str], Array] = {}

    def metrics_table(self) -> pd.DataFrame:
        """Return the metrics of the mean over seeds, one row per metric, class and place.

        The columns are condition, ratio, class, figure (the metric's name), estimate, low, high, p,
        seeds, method: bootstrap (of groups and seeds), or DeLong (of images alone), and the seeds
        that did not learn.
        """
        rows = []
        for place, runs, name in self._places():
            seeds = self.study.seeds_of(runs)
            failed = [str(of) for of, run in zip(seeds, runs, strict=True) if not run.learned]
            for metric in (*self.metrics.names, DELONG):
                row = _row(place, metric, self._interval(runs, name, metric), seeds)
                rows.append(row | {"not_learned": " ".join(failed)})
        return pd.DataFrame(rows)

    def pairs(self) -> tuple[pd.DataFrame, list[str], list[str]]:
        """Compare each two conditions at each ratio, on the seeds that both have.

        The table is that of `metrics_table` with a and b for the condition, the estimate a - b, and
        p_holm: Holm's correction over all pairs, at one ratio, for one class, metric and method. In
        the rows of pairs that are not compared, `not_compared` says why. Then there are sentences:
        the comparisons of AUROC, and the pairs that are not compared.
        """
        study, rows = self.study, list[dict[str, Any]]()
        areas, refusals = dict[int, Interval](), list[str]()
        for ratio, (a, b) in product(self.ratios, study.condition_pairs()):
            pair = study.match(a, b, ratio)
            if pair.refusal:
                text = stats.sentence(a, b, Interval.undefined(), refusal=pair.refusal)
                refusals.append(f"r = {ratio:g}: {text}")
            for name in self.positives:
                place = {"a": a, "b": b, "ratio": ratio, "class": name}
                pair.compare([*self.metrics.names, DELONG], partial(self._difference, pair, name))
                if not pair.refusal:
                    areas[len(rows)] = pair.metrics["auroc"]
                for metric, result in pair.metrics.items():
                    row = _row(place, metric, result, pair.seeds)
                    rows.append(row | {"not_compared": pair.refusal})
        table = pd.DataFrame(rows)
        if rows:  # each pair has a row in each group, so that the size of the family is right
            by = table.groupby(["ratio", "class", "figure", "method"])["p"]
            table["p_holm"] = by.transform(lambda p: stats.holm(list(p), len(p)))
        sentences, few = list[str](), study.too_few.partition(" ")[0]
        for i, result in areas.items():
            row, p_value = rows[i], float(table["p_holm"][i])
            text = stats.sentence(row["a"], row["b"], result, p_value=p_value, few=few)
            sentences.append(f"r = {row['ratio']:g}, AUROC of {row['class']}: {text}")
        return table, sentences, refusals

    def _interval(self, runs: Sequence[Run], name: str, metric: str) -> Interval:
        if metric == DELONG:
            return self._if_independent(name, stats.delong(*self._scores(runs, name)))
        resamples = self.study.resamples(self.study.seeds_of(runs))
        result = stats.interval(resamples, self._resampled(runs, name, metric)).clipped()
        # No p-value: it would be of the hypothesis that the metric is 0.
        return replace(result, p_value=np.nan)

    def _difference(self, pair: Pair, name: str, metric: str) -> Interval:
        runs = pair.of_a, pair.of_b
        if metric == DELONG:
            (positive, x), (_, y) = (self._scores(of, name) for of in runs)
            return self._if_independent(name, stats.delong_difference(positive, x, y))
        a, b = (self._resampled(of, name, metric) for of in runs)
        return stats.difference(self.study.resamples(pair.seeds), a, b).clipped(lowest=-1.0)

    def _if_independent(self, name: str, by_images: Interval) -> Interval:
        """Remove DeLong's ends and p-value where all images of a side are of one patient."""
        if self.study.groups is None:
            return by_images
        positive = self.study.labels == self.study.classes.index(name)
        groups = np.asarray(self.study.groups)
        if all(len({*groups[side].tolist()}) > 1 for side in (positive, ~positive)):
            return by_images
        return replace(by_images, low=np.nan, high=np.nan, p_value=np.nan, why=ONE_PATIENT)

    def curves(self) -> pd.DataFrame:
        """Return the curves, each the mean over seeds at the false-positive rates of GRID.

        The columns are condition, ratio, class, false_positive_rate and sensitivity.
        """
        tables = []
        for place, runs, name in self._places():
            positive, scores = self._scores(runs, name)
            mean = np.mean([stats.roc(positive, s).sensitivity_at(GRID)[0] for s in scores], axis=0)
            columns = {"false_positive_rate": GRID, "sensitivity": mean}
            tables.append(pd.DataFrame({**place, **columns}))
        return pd.concat(tables, ignore_index=True)

    def _places(self) -> Iterator[tuple[dict[str, Any], list[Run], str]]:
        """Yield condition, ratio and class as columns, their runs, and the class."""
        places = product(self.ratios, self.study.conditions, self.positives)
        for ratio, condition, name in places:
            if runs := self.study.at(condition, ratio):
                yield {"condition": condition, "ratio": ratio, "class": name}, runs, name

    def _resampled(self, runs: Sequence[Run], name: str, metric: str) -> Array:
        """Return a metric of K runs on every resample, (1 + B + D, K)."""
        resamples, place = self.study.test_resamples, self.metrics.names.index(metric)
        for run in runs:
            if (run.name, name) not in self._values:
                scores = self._scores([run], name)
                values = stats.resampled_roc(resamples, *scores, self.metrics.measure)
                self._values[run.name, name] = values[:, 0]
        return np.stack([self._values[run.name, name][:, place] for run in runs], axis=1)

    def _scores(self, runs: Sequence[Run], name: str) -> tuple[NDArray[np.bool_], Array]:
        """Return which images are positive (n,), and their scores in K runs (K, n)."""
        column = self.study.classes.index(name)
        scores = [self.study.probabilities(run)[:, column] for run in runs]
        return self.study.labels == column, np.stack(scores)


def _row(
    place: dict[str, Any], metric: str, result: Interval, seeds: Sequence[Replicate]
) -> dict[str, Any]:
    figure, method = ("auroc", DELONG) if metric == DELONG else (metric, "bootstrap")
    numbers = {"estimate": result.estimate, "low": result.low, "high": result.high}
    last = {"p": result.p_value, "seeds": " ".join(map(str, seeds)), "method": method}
    return {**place, "figure": figure, **numbers, **last}
