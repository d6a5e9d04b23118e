"""Calibration: how well the predicted probabilities agree with the share of correct predictions.

The probabilities are compared before and after temperature scaling (Guo et al. 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stagetransfer.figures import COLOURS, STYLE
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages import plots
from stagetransfer.pages.blocks import Block, Data, Plot, Section, Table, Text, data_frame
from stagetransfer.runs.ensembles import temperature
from stagetransfer.runs.run import Replicate, Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import apply_temperature, ece_interval, reliability
from stagetransfer.statistics.calibration import BINS
from stagetransfer.statistics.metrics import image_losses

FILE = "validation.csv"
KINDS = ("as trained", "at T")

NOTES = (
    f"ECE: expected calibration error with {BINS} bins of the highest probability (Guo et al. "
    "2017) on the test set; mean over seeds, with its 95 % interval over seeds and patients. It is "
    "biased upwards a little, because the noise of each bin counts as an error.",
    "T: the temperature fitted to the validation images of each run, by which its logits are "
    "divided. Above 1, the network was overconfident. It is 1 if no validation image is "
    "misclassified. It changes no prediction.",
)


@dataclass(frozen=True)
class _Calibrated:
    """The runs of one condition that have validation predictions."""

    condition: str
    seeds: tuple[Replicate, ...]
    temperatures: list[float]  # one per run
    probabilities: dict[str, NDArray[np.float64]]  # by `KINDS`: (runs, test images, classes)


def calibration_sections(study: Study) -> list[Section]:
    """Return the section at the main ratio; none if no run has validation predictions."""
    at_main = [run for run in study.runs if run.ratio == study.main_ratio]
    runs = [run for run in at_main if (run.folder / FILE).is_file()]
    if not runs:
        return []
    conditions = dict.fromkeys(run.condition for run in runs)
    found = [_calibrate(study, [run for run in runs if run.condition == of]) for of in conditions]
    blocks: list[Block] = [_table(study, found), *_diagram(study, found)]
    if absent := len(at_main) - len(runs):
        text = (
            f"{fmt.count(absent, 'run')} without {FILE} left out; earlier versions did not write "
            "this file. `stagetransfer predict` writes it."
        )
        blocks.append(Text(text, kind="warning"))
    return [Section(f"Calibration at r = {fmt.ratio(study.main_ratio)}", blocks)]


def _calibrate(study: Study, runs: Sequence[Run]) -> _Calibrated:
    trained = [study.probabilities(run) for run in runs]
    temperatures = [temperature(run) for run in runs]
    scaled = [apply_temperature(p, t) for p, t in zip(trained, temperatures, strict=True)]
    by_kind = dict(zip(KINDS, (np.stack(trained), np.stack(scaled)), strict=True))
    return _Calibrated(runs[0].condition, study.seeds_of(runs), temperatures, by_kind)


def _table(study: Study, found: Sequence[_Calibrated]) -> Table:
    columns = (
        "condition seeds temperature temperature_least temperature_greatest "
        "ece_trained ece_trained_low ece_trained_high ece_tempered ece_tempered_low "
        "ece_tempered_high cross_entropy_trained cross_entropy_tempered"
    )
    rows, records = [], []
    for one in found:
        t, resamples = one.temperatures, study.resamples(one.seeds)
        means = [(float(np.mean(t)), min(t), max(t))]
        for p in one.probabilities.values():
            ece = ece_interval(resamples, p)
            means.append((ece.estimate, ece.low, ece.high))
        losses = [float(image_losses(study.labels, p).mean()) for p in one.probabilities.values()]
        cells = [fmt.mean(*means[0], digits=2), *(fmt.mean(*ece) for ece in means[1:])]
        condition = fmt.marked(study, one.condition, study.main_ratio)
        rows.append([condition, str(len(t)), *cells, *map(fmt.number, losses)])
        records.append((one.condition, len(t), *chain(*means), *losses))
    heads = ["condition", "seeds", "T [lowest, highest]"]
    heads += [f"{name} {kind}" for name in ("ECE", "cross-entropy") for kind in KINDS]
    title = "Calibration on the test set, with temperatures fitted on validation images"
    return Table("calibration", title, heads, rows, NOTES, data=data_frame(columns, records))


def _diagram(study: Study, found: Sequence[_Calibrated]) -> list[Block]:
    """Return the reliability diagram and its numbers; the seeds of a condition are pooled."""
    bins = []
    for one in found:
        for kind, p in one.probabilities.items():
            labels = np.tile(study.labels, len(p))
            pooled = reliability(labels, p.reshape(len(labels), -1))
            counts = pooled.count.astype(int)
            columns = zip(range(BINS), counts, pooled.confidence, pooled.accuracy, strict=True)
            bins += [(one.condition, kind, *values) for values in columns]
    data = data_frame("condition kind bin images confidence accuracy", bins)
    caption = (
        "Test images grouped by their highest probability; seeds are pooled. The area of a mark is "
        "the share of images in its bin. On the diagonal, the probabilities are calibrated."
    )
    gaps = data.assign(gap=(data["confidence"] - data["accuracy"]).abs() * data["images"])
    sums = gaps.groupby(["condition", "kind"], sort=False)[["gap", "images"]].sum().reset_index()
    alt = fmt.described(
        "Mean distance of the marks from the diagonal, weighted by images",
        zip(sums["condition"], sums["kind"], sums["gap"] / sums["images"], strict=True),
    )
    plot = Plot("reliability", "Reliability diagram", caption, _plot(study, data), alt)
    return [plot, Data("reliability", data)]


@mpl.rc_context(STYLE)
def _plot(study: Study, data: pd.DataFrame) -> Figure:
    conditions = data["condition"].unique()
    figure, axes = plots.grid(len(conditions), 4, (2.9, 2.9))
    for axis, condition in zip(axes, conditions, strict=True):
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        for kind, colour, marker in zip(KINDS, (COLOURS[2], COLOURS[1]), "os", strict=True):
            bins = data[(data["condition"] == condition) & (data["kind"] == kind)]
            x, y, area = bins["confidence"], bins["accuracy"], 300 * bins["images"]
            axis.plot(x, y, color=colour, linewidth=1)
            style: dict[str, Any] = {"color": colour, "marker": marker, "alpha": 0.7, "label": kind}
            axis.scatter(x, y, 8 + area / bins["images"].sum(), **style)
        title = plots.label(study, condition, study.main_ratio).replace(" (", "\n(")
        axis.set(title=title, xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    plots.label_axes(figure, "highest probability", "share of correct predictions")
    plots.legend(figure, axes)
    return figure
