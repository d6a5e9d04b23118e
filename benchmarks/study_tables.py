"""The figures of the study: differences of conditions, their growth, summaries and claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects  # type: ignore[import-untyped]

from stagetransfer.api import load_runs
from stagetransfer.figures import STYLE, new_figure
from stagetransfer.runs import Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import Interval, difference, holm

RATIOS = (0.2, 0.6, 1.0)
PRIMARY = [("two_stage", "scratch")]
SECONDARY = [("natural", "scratch"), ("texture", "scratch"), ("two_stage", "natural")]
FOR_CLAIMS = [("two_stage", "texture"), ("natural", "texture")]  # without p-values
GROWTH = "0.2 - 1"  # in place of r: the difference at r = 0.2 minus that at r = 1
FIGURE = "accuracy"


@dataclass(frozen=True)
class Difference:
    """The difference a - b in a cell (network, target), in points of accuracy."""

    cell: str
    a: str
    b: str
    r: str
    difference: float
    low: float
    high: float
    variance: float
    p: float
    seeds: int
    runs: str  # the hashes at the end of the names of the run folders
    refusal: str

    @property
    def pair(self) -> tuple[str, str]:
        """The two conditions."""
        return self.a, self.b


@dataclass(frozen=True)
class Summary:
    """The random-effects mean of a difference over cells, in points of accuracy."""

    a: str
    b: str
    r: str
    cells: int
    mean: float
    low: float
    high: float
    tau: float
    i2: float

    @property
    def verdict(self) -> str:
        """Which sign the mean has, if the interval excludes zero; otherwise "undecided"."""
        return "positive" if self.low > 0 else "negative" if self.high < 0 else "undecided"


def load_network(outputs: Path, network: str) -> list[Run]:
    """Return the finished runs of a network; none if it has not begun."""
    folder = outputs / network
    return list(load_runs(folder)) if folder.is_dir() else []


def differences(outputs: Path, cells: Sequence[tuple[str, str]]) -> Iterator[Difference]:
    """Yield the differences of every cell that has runs."""
    for network in dict.fromkeys(network for network, _ in cells):
        by_target: dict[str, list[Run]] = {}
        for run in load_network(outputs, network):
            by_target.setdefault(_target_of(run), []).append(run)
        for target in (target for of, target in cells if of == network and target in by_target):
            # With fewer resamples, no p-value could pass a correction over 54 comparisons.
            study = Study(by_target[target], count=10_000)
            for (a, b), ratio in product([*PRIMARY, *SECONDARY, *FOR_CLAIMS], RATIOS):
                pair = study.pair(a, b, ratio, (FIGURE,))
                runs, gap = (*pair.of_a, *pair.of_b), pair.metrics[FIGURE]
                yield _row(f"{network}, {target}", a, b, f"{ratio:g}", gap, runs, pair.refusal)
            for a, b in PRIMARY:
                yield _growth(f"{network}, {target}", study, a, b)


def summaries(rows: Sequence[Difference], only: str = "") -> Iterator[Summary]:
    """Yield the mean of each difference over the cells, or those whose name begins with `only`."""
    for a, b, r in dict.fromkeys((row.a, row.b, row.r) for row in rows):
        of = [row for row in rows if (row.a, row.b, row.r) == (a, b, r)]
        of = [row for row in of if row.cell.startswith(only) and row.variance > 0]
        if len(of) < 2:
            continue
        # Paule and Mandel's estimate of the variance between cells.
        effects, variances = [row.difference for row in of], [row.variance for row in of]
        found = combine_effects(np.array(effects), np.array(variances), method_re="pm")
        # Knapp and Hartung's interval, never shorter than that of the plain standard error.
        error = max(found.sd_eff_w_re, found.sd_eff_w_re_hksj)
        half, mean = float(stats.t.ppf(0.975, len(of) - 1)) * error, float(found.mean_effect_re)
        i2 = max(0.0, 1 - found.df_resid / found.q) if found.q > 0 else 0.0
        tau = float(np.sqrt(found.tau2))
        yield Summary(a, b, r, len(of), mean, mean - half, mean + half, tau, i2)


def claims(rows: Sequence[Difference]) -> Iterator[tuple[str, str, str]]:
    """Yield each claim of docs/study.md, what it rests on, and what follows."""
    whole, lite0 = list(summaries(rows)), list(summaries(rows, "EfficientNet"))

    def of(found: list[Summary], a: str, b: str, r: str = "1") -> list[Summary]:
        return [one for one in found if (one.a, one.b, one.r) == (a, b, r)]

    best = [one for b in ("scratch", "natural", "texture") for one in of(whole, "two_stage", b)]
    yield _judged("1. two_stage is the best condition at r = 1", best, "positive", 3)
    alone = of(whole, "texture", "scratch")
    yield _judged("2. texture alone is worse than scratch", alone, "negative")
    growth = of(whole, *PRIMARY[0], GROWTH)
    yield _judged("3. two_stage - scratch grows from r = 1 to r = 0.2", growth, "positive")
    natural = of(lite0, "natural", "texture")
    yield _judged("4. ImageNet weights help more than generated textures", natural, "positive")


def with_holm(rows: Sequence[Difference], size: int) -> Iterator[tuple[Difference, float]]:
    """Yield each row with its p-value after Holm's correction over `size` tests."""
    yield from zip(rows, holm([row.p for row in rows], size), strict=True)


def trained(outputs: Path, networks: Sequence[str]) -> tuple[int, float]:
    """Return the number of finished runs, and the hours of all their trainings.

    A source stage counts once for each key, however many runs share it.
    """
    runs = [run for network in networks for run in load_network(outputs, network)]
    seconds = {stage["key"]: float(stage["seconds"]) for run in runs for stage in run.stages}
    return len(runs), sum(seconds.values()) / 3600


def save_table(rows: Sequence[Difference], file: Path) -> None:
    """Write all differences as a CSV, with the hashes of their runs."""
    pd.DataFrame(map(asdict, rows)).to_csv(file, index=False, float_format="%.6g")


@mpl.rc_context(STYLE)
def forest(rows: Sequence[Difference]) -> mpl.figure.Figure:
    """Return the forest plot of the primary comparison: cells and mean, a panel for each r."""
    a, b = PRIMARY[0]
    cells = list(dict.fromkeys(row.cell for row in rows))
    figure = new_figure(7.4, 0.35 * (len(cells) + 1) + 1.2)
    for axes, ratio in zip(figure.subplots(1, len(RATIOS), sharey=True), RATIOS, strict=True):
        of = [row for row in rows if row.pair == (a, b) and row.r == f"{ratio:g}"]
        for row in of:
            place = len(cells) - cells.index(row.cell)
            axes.plot([row.low, row.high], [place, place], color="#0072B2")
            axes.plot(row.difference, place, "s", color="#0072B2", markersize=4)
        for mean in summaries(of):
            axes.plot([mean.low, mean.high], [0, 0], color="black")
            axes.plot(mean.mean, 0, "D", color="black", markersize=5)
        axes.axvline(0, color="#777777", linewidth=0.8)
        axes.set_title(f"r = {ratio:g}")
        axes.set_xlabel(f"{a} - {b}, points")
        axes.set_yticks(range(len(cells) + 1), ["mean (random effects)", *reversed(cells)])
    return figure


def _growth(cell: str, study: Study, a: str, b: str) -> Difference:
    """Return by how much a - b is larger at the smallest r than at r = 1, paired by seed."""
    first, last = (study.match(a, b, ratio) for ratio in (RATIOS[0], RATIOS[-1]))
    refusal = first.refusal or last.refusal
    if not refusal and first.seeds != last.seeds:
        refusal = "not the same seeds at both r"
    runs = (*first.of_a, *first.of_b, *last.of_a, *last.of_b)
    if refusal:
        return _row(cell, a, b, GROWTH, Interval.undefined(), runs, refusal)
    small, large = (
        study.values(pair.of_a, FIGURE) - study.values(pair.of_b, FIGURE) for pair in (first, last)
    )
    gap = difference(study.resamples(first.seeds), small, large)
    return _row(cell, a, b, GROWTH, gap, runs, "")


def _row(
    cell: str, a: str, b: str, r: str, gap: Interval, runs: Sequence[Run], refusal: str
) -> Difference:
    """Return a row of the table; accuracies become points."""
    points = (100 * gap.estimate, 100 * gap.low, 100 * gap.high, 1e4 * gap.variances[2])
    hashes = " ".join(run.name[-8:] for run in runs)
    return Difference(cell, a, b, r, *points, gap.p_value, gap.seeds, hashes, refusal)


def _target_of(run: Run) -> str:
    root = str(run.config.get("domain.target.root") or "")
    return {"": "embedded", "lung_ct": "COVID-CT", "texture": "DTD"}[Path(root).name]


def _judged(claim: str, of: list[Summary], sign: str, needed: int = 1) -> tuple[str, str, str]:
    evidence = ", ".join(
        f"{one.a} - {one.b} {one.mean:+.1f} [{one.low:.1f}, {one.high:.1f}]" for one in of
    )
    verdicts = {one.verdict for one in of}
    if len(of) < needed:
        return claim, evidence, "not enough cells"
    if verdicts == {sign}:
        return claim, evidence, "supported"
    contradicted = verdicts - {sign, "undecided"}
    return claim, evidence, "contradicted" if contradicted else "undecided"
