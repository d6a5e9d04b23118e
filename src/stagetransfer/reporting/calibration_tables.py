"""Calibration: whether the runs' probabilities can be taken at their word, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stagetransfer.figures import STYLE
from stagetransfer.reporting import plots
from stagetransfer.reporting.blocks import (
    Block,
    Data,
    Section,
    Table,
    Text,
    counted,
    number,
    ratio_said,
    span,
)
from stagetransfer.runs.reader import read_predictions
from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import (
    Interval,
    Reliability,
    apply_temperature,
    ece_interval,
    fit_temperature,
    reliability,
)
from stagetransfer.statistics.calibration import BINS

FILE = "validation.csv"

NOTES = (
    f"ECE: expected calibration error in {BINS} bins of the greatest probability (Guo et al. "
    "2017), on the test set; mean over seeds, 95 % interval over seeds and patients. It is a "
    "little too great by itself, since each bin's noise counts as an error.",
    "T: the temperature that each run's validation images give its logits; above 1 the network "
    "was too sure. 1 where no validation image is classified wrongly. It changes no prediction.",
)


@dataclass(frozen=True)
class _Condition:
    """A condition's runs with validation predictions: test probabilities (S, n, C) as trained and
    at each run's own temperature."""

    name: str
    temperatures: list[float]
    trained: NDArray[np.float64]
    tempered: NDArray[np.float64]


def calibration_sections(study: Study, out: Path) -> list[Section]:
    """The section on calibration at the main ratio; none where no run has its validation.csv."""
    found = [
        _condition(study, name, runs)
        for name in study.conditions
        for runs in [[r for r in study.at(name, study.main_ratio) if (r.folder / FILE).is_file()]]
        if runs
    ]
    if not found:
        return []
    all_runs = [run for name in study.conditions for run in study.at(name, study.main_ratio)]
    absent = len(all_runs) - sum(len(one.temperatures) for one in found)
    blocks: list[Block] = [_table(study, found), *_diagram(study, found, out)]
    if absent:
        text = f"{counted(absent, 'run')} without {FILE}, from before it was kept, are left out."
        blocks.append(Text(f"{text} `stagetransfer predict` writes it.", kind="warning"))
    return [Section(f"Calibration at r = {ratio_said(study.main_ratio)}", blocks)]


def _condition(study: Study, name: str, runs: Sequence[Run]) -> _Condition:
    temperatures, trained, at_own = [], [], []
    for run in runs:
        _, _, labels, probabilities = read_predictions(run.folder / FILE, run.classes)
        logs = np.log(np.clip(probabilities, 1e-300, None))
        temperatures.append(fit_temperature(labels, logs))
        order = sorted(range(len(run.ids)), key=run.ids.__getitem__)
        trained.append(run.probabilities[order])
        at_own.append(apply_temperature(trained[-1], temperatures[-1]))
    return _Condition(name, temperatures, np.stack(trained), np.stack(at_own))


def _table(study: Study, found: Sequence[_Condition]) -> Table:
    rows, data = [], []
    for one in found:
        resamples = study.resamples(len(one.temperatures))
        before, after = (ece_interval(resamples, p) for p in (one.trained, one.tempered))
        low, high = min(one.temperatures), max(one.temperatures)
        losses = [_loss(study, p) for p in (one.trained, one.tempered)]
        rows.append(
            [
                one.name,
                str(len(one.temperatures)),
                f"{number(float(np.mean(one.temperatures)), 2)}\n{span(low, high, 2)}",
                _said(before),
                _said(after),
                *(number(value) for value in losses),
            ]
        )
        data.append(
            {
                "condition": one.name,
                "seeds": len(one.temperatures),
                "temperature": np.mean(one.temperatures),
                "temperature_least": low,
                "temperature_greatest": high,
                **_cells("ece_trained", before),
                **_cells("ece_tempered", after),
                "cross_entropy_trained": losses[0],
                "cross_entropy_tempered": losses[1],
            }
        )
    columns = ["condition", "seeds", "T (least, greatest)", "ECE as trained", "ECE at T"]
    columns += ["cross-entropy as trained", "cross-entropy at T"]
    title = "Calibration on the test set, by temperature fitted on validation images"
    return Table("calibration", title, columns, rows, NOTES, data=pd.DataFrame(data))


def _said(found: Interval) -> str:
    return f"{number(found.estimate)}\n{span(found.low, found.high)}"


def _cells(name: str, found: Interval) -> dict[str, float]:
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}


def _loss(study: Study, probabilities: NDArray[np.float64]) -> float:
    own = probabilities[:, np.arange(len(study.labels)), study.labels]
    return float(-np.log(np.clip(own, 1e-15, None)).mean())


def _diagram(study: Study, found: Sequence[_Condition], out: Path) -> list[Block]:
    rows = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.7 * len(found) + 0.6, 3.2), layout="constrained")
        axes = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
        for axis, one in zip(axes, found, strict=True):
            axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
            for kind, p, colour, mark in (
                ("as trained", one.trained, "#D55E00", "o"),
                ("at T", one.tempered, "#0072B2", "s"),
            ):
                pooled = _pooled(study, p)
                share = pooled.count / pooled.count.sum()
                axis.plot(pooled.confidence, pooled.accuracy, color=colour, linewidth=1)
                axis.scatter(
                    pooled.confidence, pooled.accuracy, 8 + 300 * share, color=colour, marker=mark,
                    alpha=0.7, label=kind,
                )  # fmt: skip
                rows += [
                    {"condition": one.name, "kind": kind, "bin": i, "images": int(pooled.count[i]),
                     "confidence": pooled.confidence[i], "accuracy": pooled.accuracy[i]}
                    for i in range(BINS)
                ]  # fmt: skip
            axis.set(title=one.name, xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        figure.supxlabel("greatest probability", fontsize=9)
        axes[0].set_ylabel("share classified rightly")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
    caption = (
        "Test images by their greatest probability, seeds pooled; a mark's area is the share of "
        "images in its bin. On the diagonal, probabilities can be taken at their word."
    )
    data = Data("reliability", pd.DataFrame(rows))
    return [plots.save(figure, "reliability", "Reliability diagram", caption, out), data]


def _pooled(study: Study, probabilities: NDArray[np.float64]) -> Reliability:
    labels = np.tile(study.labels, len(probabilities))
    return reliability(labels, probabilities.reshape(len(labels), -1))
