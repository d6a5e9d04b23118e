"""ROC curves of a study: each class against the rest, and conditions compared in pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer import statistics as stats
from stagetransfer.errors import UserError
from stagetransfer.runs.run import Replicate, Run
from stagetransfer.runs.study import Match, Study
from stagetransfer.statistics import Curve, Interval
from stagetransfer.statistics.metrics import Array

GRID = np.linspace(0, 1, 201)  # false-positive rates at which curves are averaged and drawn


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
    """The ROC curves of all runs of a study.

    Attributes:
        positives: the classes that are positive in turn, against all others; may be empty.
        left_out: the classes of which, or of whose rest, the test set has fewer than two images.
    """

    def __init__(
        self,
        study: Study,
        metrics: RocMetrics,
        positives: Sequence[str] | None = None,
        ratios: Sequence[float] | None = None,
    ) -> None:
        """Set up the curves of all ratios and classes, or of the given ones.

        Without `positives`, all classes are taken as positive in turn, or the second of two. Each
        curve is computed when it is first needed.
        """
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
            failed = [of for of, run in zip(seeds, runs, strict=True) if not run.learned]
            last = {"not_learned": " ".join(map(str, failed))}
            for metric, values in self._resampled(runs, name).items():
                result = stats.interval(self.study.resamples(seeds), values).clipped()
                # Whether a metric is 0 is no question of interest, so there is no p-value.
                result = replace(result, p_value=np.nan)
                rows.append(_row(place, metric, result, seeds, "bootstrap") | last)
            by_images = stats.delong(*self._scores(runs, name))
            rows.append(_row(place, "auroc", by_images, seeds, "DeLong") | last)
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
            match = study.match(a, b, ratio)
            last = {"not_compared": match.refusal}
            if match.refusal:
                text = stats.sentence(a, b, Interval.undefined(), refusal=match.refusal)
                refusals.append(f"r = {ratio:g}: {text}")
            for name in self.positives:
                place = {"a": a, "b": b, "ratio": ratio, "class": name}
                for metric, method, result in self._differences(match, name):
                    if metric == "auroc" and method == "bootstrap" and not match.refusal:
                        areas[len(rows)] = result
                    rows.append(_row(place, metric, result, match.seeds, method) | last)
        table = pd.DataFrame(rows)
        if rows:  # each pair has a row in each group, so that the size of the family is right
            by = table.groupby(["ratio", "class", "figure", "method"])["p"]
            table["p_holm"] = by.transform(
                lambda p: pd.Series(stats.holm(list(p), len(p)), p.index)
            )
        sentences = []
        for i, result in areas.items():
            row, p_value = rows[i], float(table["p_holm"][i])
            text = stats.sentence(row["a"], row["b"], result, p_value=p_value, few=study.too_few)
            sentences.append(f"r = {row['ratio']:g}, AUROC of {row['class']}: {text}")
        return table, sentences, refusals

    def _differences(self, match: Match, name: str) -> Iterator[tuple[str, str, Interval]]:
        """Yield metric, method and difference; not defined if the runs are not to be compared."""
        if match.refusal:
            places = [
                *((metric, "bootstrap") for metric in self.metrics.names),
                ("auroc", "DeLong"),
            ]
            yield from ((*place, Interval.undefined()) for place in places)
            return
        a, b = (self._resampled(runs, name) for runs in (match.a, match.b))
        resamples = self.study.resamples(match.seeds)
        for metric in self.metrics.names:
            yield metric, "bootstrap", stats.difference(resamples, a[metric], b[metric])
        (positive, x), (_, y) = (self._scores(runs, name) for runs in (match.a, match.b))
        yield "auroc", "DeLong", stats.delong_difference(positive, x, y)

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

    def _resampled(self, runs: Sequence[Run], name: str) -> dict[str, Array]:
        """Return each metric of K runs on every resample, (1 + B + D, K)."""
        resamples, measure = self.study.test_resamples, self.metrics.measure
        for run in runs:
            if (run.name, name) not in self._values:
                values = stats.resampled_roc(resamples, *self._scores([run], name), measure)
                self._values[run.name, name] = values[:, 0]
        stacked = np.stack([self._values[run.name, name] for run in runs], axis=1)
        return {metric: stacked[:, :, i] for i, metric in enumerate(self.metrics.names)}

    def _scores(self, runs: Sequence[Run], name: str) -> tuple[NDArray[np.bool_], Array]:
        """Return which images are positive (n,), and their scores in K runs (K, n)."""
        column = self.study.classes.index(name)
        scores = [self.study.probabilities(run)[:, column] for run in runs]
        return self.study.labels == column, np.stack(scores)


def rows_at(table: pd.DataFrame, condition: str, ratio: float, name: str) -> pd.DataFrame:
    """Return the rows of one condition, ratio and class."""
    chosen = (table["condition"] == condition) & (table["class"] == name)
    return table[chosen & (table["ratio"] == ratio)]


def _row(
    place: dict[str, Any], metric: str, result: Interval, of: Sequence[Replicate], method: str
) -> dict[str, Any]:
    numbers = {"estimate": result.estimate, "low": result.low, "high": result.high}
    last = {"p": result.p_value, "seeds": " ".join(map(str, of)), "method": method}
    return {**place, "figure": metric, **numbers, **last}
