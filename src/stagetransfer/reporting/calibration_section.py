"""Calibration: how well the predicted probabilities agree with the share of correct predictions.

The probabilities are compared before and after temperature scaling (Guo et al. 2017).
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stagetransfer.figures import COLOURS, STYLE
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages import plots
from stagetransfer.pages.blocks import Block, Data, Plot, Section, Table, Text, data_frame
from stagetransfer.runs.ensembles import temperature
from stagetransfer.runs.study import Study
from stagetransfer.statistics import apply_temperature, ece_interval, reliability
from stagetransfer.statistics.calibration import BINS
from stagetransfer.statistics.metrics import Array, Integers, image_losses

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


COLUMNS = (
    "condition seeds temperature temperature_least temperature_greatest "
    "ece_trained ece_trained_low ece_trained_high ece_tempered ece_tempered_low "
    "ece_tempered_high cross_entropy_trained cross_entropy_tempered"
)


def calibration_sections(study: Study) -> list[Section]:
    """Return the section at the main ratio; none if no run has validation predictions."""
    at_main = [run for run in study.runs if run.ratio == study.main_ratio]
    runs = [run for run in at_main if (run.folder / FILE).is_file()]
    if not runs:
        return []
    rows, records, bins = [], [], []
    for condition in dict.fromkeys(run.condition for run in runs):
        own = [run for run in runs if run.condition == condition]
        t = [temperature(run) for run in own]
        trained = np.stack([study.probabilities(run) for run in own])
        tempered = np.stack([apply_temperature(p, of) for p, of in zip(trained, t, strict=True)])
        resamples = study.resamples(study.seeds_of(own))
        eces = [ece_interval(resamples, p) for p in (trained, tempered)]
        means = [(float(np.mean(t)), min(t), max(t)), *((x.estimate, x.low, x.high) for x in eces)]
        losses = [float(image_losses(study.labels, p).mean()) for p in (trained, tempered)]
        cells = [fmt.mean(*means[0], digits=2), *(fmt.mean(*ece) for ece in means[1:])]
        first = fmt.marked(study, condition, study.main_ratio)
        rows.append([first, str(len(t)), *cells, *map(fmt.number, losses)])
        records.append((condition, len(t), *chain(*means), *losses))
        for kind, p in zip(KINDS, (trained, tempered), strict=True):
            bins += [(condition, kind, *of) for of in _bins(study.labels, p)]
    heads = ["condition", "seeds", "T [lowest, highest]"]
    heads += [f"{name} {kind}" for name in ("ECE", "cross-entropy") for kind in KINDS]
    title = "Calibration on the test set, with temperatures fitted on validation images"
    table = Table("calibration", title, heads, rows, NOTES, data_frame(COLUMNS, records))
    blocks: list[Block] = [table, *_diagram(study, bins)]
    if absent := len(at_main) - len(runs):
        text = (
            f"Left out: {fmt.count(absent, 'run')} without {FILE}. Earlier versions did not write "
            "this file; `stagetransfer predict` writes it."
        )
        blocks.append(Text(text, kind="warning"))
    return [Section(f"Calibration at r = {fmt.ratio(study.main_ratio)}", blocks)]


def _bins(labels: Integers, probabilities: Array) -> Iterable[tuple[object, ...]]:
    """Return number, images, confidence and accuracy of each bin; the seeds are pooled."""
    every = np.tile(labels, len(probabilities))
    pooled = reliability(every, probabilities.reshape(len(every), -1))
    return zip(range(BINS), *pooled, strict=True)


def _diagram(study: Study, bins: Sequence[tuple[object, ...]]) -> list[Block]:
    """Return the reliability diagram and its numbers."""
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
