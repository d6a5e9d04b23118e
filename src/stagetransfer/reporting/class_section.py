"""Results per class: the recall of each class against r, and confusion matrices."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stagetransfer.figures import STYLE
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages import plots
from stagetransfer.pages.blocks import Data, Plot, Section, data_frame
from stagetransfer.reporting.figure5 import CAPTION, recall_plot
from stagetransfer.runs.study import Study


def class_section(study: Study) -> Section:
    """Return the plots of recall and confusion matrices, and the numbers of both."""
    caption = f"{CAPTION} n: number of test images."
    if len(study.classes) > plots.MAX_CLASSES:
        caption += f" Shown are the {plots.MAX_CLASSES} classes with the fewest test images."
    if study.few:
        caption += f" Fewer than ten groups: {fmt.join(study.few)}."
    title = "Recall of each class against r"
    matrix_caption = (
        "Counts summed over seeds. The colour is the share of the images with this label."
    )
    counts = [
        (condition, ratio, label, *row)
        for condition in study.conditions
        for ratio in [study.at(condition)[-1].ratio]
        for label, row in zip(study.classes, confusion(study, condition, ratio), strict=True)
    ]
    recalls = [
        (condition, ratio, name, x.estimate, x.low, x.high, x.seeds)
        for condition in study.conditions
        for ratio in study.ratios
        if study.at(condition, ratio)
        for label, name in enumerate(study.classes)
        if label in study.labels
        for x in [study.interval(condition, ratio, f"recall:{name}")]
    ]
    drawn = {study.classes[i] for i in plots.classes_to_draw(study)}
    alt = fmt.described(
        f"Mean recall at r = {fmt.ratio(study.main_ratio)}",
        (
            (of, name, x)
            for of, r, name, x, *_ in recalls
            if r == study.main_ratio and name in drawn
        ),
    )
    recall = Plot("recall_by_class", title, caption, recall_plot(study), alt)
    title, figure = "Confusion matrices", confusion_plot(study, study.conditions)
    matrices = Plot("confusion", title, matrix_caption, figure, _most_frequent_errors(study))
    data = [
        Data("confusion", data_frame(["condition", "ratio", "label", *study.classes], counts)),
        Data("recall_by_class", data_frame("condition ratio class recall low high seeds", recalls)),
    ]
    return Section("Results per class", [recall, matrices, *data])


def _most_frequent_errors(study: Study) -> str:
    sentences = []
    for condition in study.conditions:
        counts = confusion(study, condition, study.at(condition)[-1].ratio)
        wrong = counts - np.diag(np.diag(counts))
        label, taken = (study.classes[i] for i in np.unravel_index(wrong.argmax(), wrong.shape))
        text = f"{condition}: {np.trace(counts)} of {counts.sum()} predictions are correct"
        if wrong.any():
            text += f"; the most frequent error is {label} predicted as {taken} ({wrong.max()})"
        sentences.append(text)
    return ". ".join(sentences) + "."


@mpl.rc_context({**STYLE, "axes.grid": False})
def confusion_plot(study: Study, conditions: Sequence[str], at: float | None = None) -> Figure:
    """Return one matrix per condition at a ratio (None: at its highest); rows are labels."""
    classes = [plots.shorten(name) for name in study.classes]
    font_sizes = (8, 7.5) if len(classes) <= 10 else (5.5, 5)
    show_counts = len(classes) <= plots.MAX_CLASSES
    side = min(max(3.1, 0.42 * len(classes) + 1.1), 9)
    figure, axes = plots.grid(len(conditions), 2, (side, 0.9 * side))
    for axis, condition in zip(axes, conditions, strict=True):
        ratio = study.at(condition, at)[-1].ratio
        counts = confusion(study, condition, ratio)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        texts = np.where(counts, counts.astype(str), "") if show_counts else None
        options = {"cmap": "Blues", "vmin": 0, "vmax": 1}
        image = plots.draw_heat_map(axis, shares, (classes, classes), texts, font_sizes, **options)
        axis.tick_params("x", rotation=90)
        seeds = fmt.count(len(study.at(condition, ratio)), "seed")
        mark = plots.label(study, condition, ratio).removeprefix(condition).replace(" (", "\n(")
        axis.set_title(f"{condition}, r = {fmt.ratio(ratio)}, {seeds}{mark}")
    plots.label_axes(figure, "prediction", "label")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
    bar.set_label("share of the images with this label")
    bar.outline.set_visible(False)
    return figure


def confusion(study: Study, condition: str, ratio: float) -> NDArray[np.int64]:
    """Return counts (labels, predictions), summed over the seeds."""
    counts = np.zeros((len(study.classes), len(study.classes)), np.int64)
    for run in study.at(condition, ratio):
        np.add.at(counts, (study.labels, study.predictions(run)), 1)
    return counts
