"""The plots: a look (colour, marker, line) a condition, the same in all; told apart without colour.

Colours are those of Okabe and Ito (2008), which differ to colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stagetransfer.figures import COLOURS, LINES, MARKERS, STYLE, save_figure
from stagetransfer.reporting.blocks import Plot, ratio_said
from stagetransfer.runs.roc_study import RocStudy, rows_at
from stagetransfer.runs.study import PAPER_ORDER, Study

FIGURES = {"accuracy": "accuracy", "cross_entropy": "cross-entropy (nats)"}

MANY_CLASSES = 20


class Look(NamedTuple):
    """How a condition is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]


def looks(conditions: Sequence[str]) -> dict[str, Look]:
    """The paper's four look the same in every report; others take what follows."""
    names = [*PAPER_ORDER, *(name for name in conditions if name not in PAPER_ORDER)]
    styles = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    return dict(zip(names, (Look(*style) for style in islice(styles, len(names))), strict=True))


def save(figure: Figure, stem: str, title: str, caption: str, out: Path) -> Plot:
    """Write plots/<stem>.png and .svg below `out`; return the report's block that shows them."""
    files = save_figure(figure, out / "plots" / stem)
    return Plot(title, [file.relative_to(out) for file in files], caption)


def figure_5(study: Study) -> Figure:
    """Accuracy and cross-entropy against r, with bands; by condition where there is one ratio."""
    return _against_ratio(study, list(FIGURES), list(FIGURES.values()), columns=2, size=(4.3, 3.6))


def roc_plot(study: RocStudy, ratio: float, figures: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """A panel a class, a line a condition, bars: 95 % intervals at the rates asked for."""
    with mpl.rc_context(STYLE):
        side = 3.4 if len(study.positives) > 1 else 4.6
        figure, axes = grid(len(study.positives), 4, (side, side))
        for axis, name in zip(axes, study.positives, strict=True):
            axis.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=0.8)
            for rank, condition in enumerate(study.study.conditions):
                look = looks(study.study.conditions)[condition]
                line = rows_at(curves, condition, ratio, name)
                if line.empty:
                    continue
                x, y = line["false_positive_rate"], line["sensitivity"]
                start = (np.r_[0, x], np.r_[0, y])
                axis.plot(*start, color=look.colour, linestyle=look.line)
                bars = rows_at(figures, condition, ratio, name).set_index("figure")
                read = bars.loc[[f"sensitivity_at_{rate:g}" for rate in study.metrics.rates]]
                # Aside by condition, so that no bar hides another.
                at = np.array(study.metrics.rates) + 0.008 * rank
                axis.vlines(at, read["low"], read["high"], color=look.colour, linewidth=1)
                axis.plot(at, read["estimate"], look.marker, color=look.colour, markersize=4)
                axis.plot(
                    [], [], color=look.colour, linestyle=look.line, marker=look.marker,
                    label=condition,
                )  # fmt: skip
            axis.set(title=f"{name} against the rest", xlim=(-0.02, 1.04), ylim=(-0.02, 1.04))
        figure.supxlabel("false-positive rate", fontsize=9)
        figure.supylabel("sensitivity", fontsize=9)
        legend(figure, axes)
    return figure


def recall_plot(study: Study) -> Figure:
    """Recall of each class against r; of the rarest classes in the test set if there are many."""
    support = np.bincount(study.labels, minlength=len(study.classes))
    chosen = sorted(support.argsort(kind="stable")[:MANY_CLASSES])
    names = [study.classes[i] for i in chosen if support[i]]
    titles = [f"{_short(study.classes[i])} (n = {support[i]})" for i in chosen if support[i]]
    return _against_ratio(
        study, [f"recall:{name}" for name in names], titles, columns=4, size=(2.3, 2.1), recall=True
    )


def confusion_plot(study: Study) -> Figure:
    """A matrix a condition, pooled over seeds, at its greatest ratio: rows are labels."""
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        num, classes = len(study.conditions), [_short(name) for name in study.classes]
        columns, side = min(num, 2), min(max(3.1, 0.42 * len(classes) + 1.1), 9)
        figure, axes = grid(num, columns, (side, 0.9 * side))
        for axis, condition in zip(axes, study.conditions, strict=True):
            ratio = max(run.ratio for run in study.at(condition))
            counts = confusion(study, condition, ratio)
            rows = np.maximum(counts.sum(1, keepdims=True), 1)
            image = axis.imshow(counts / rows, cmap="Blues", vmin=0, vmax=1)
            seeds = len(study.at(condition, ratio))
            axis.set_title(f"{condition}, r = {ratio_said(ratio)}, {seeds} seed{'s' * (seeds > 1)}")
            small = 8 if len(classes) <= 10 else 5.5
            axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=small)
            axis.set_yticks(range(len(classes)), classes, fontsize=small)
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
            if len(classes) <= MANY_CLASSES:
                _write_counts(axis, counts, counts / rows)
        figure.supxlabel("prediction", fontsize=9)
        figure.supylabel("label", fontsize=9)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
        bar.set_label("share of the label's images")
        bar.outline.set_visible(False)
    return figure


def confusion(study: Study, condition: str, ratio: float) -> np.ndarray[tuple[int, int]]:
    """Counts (C, C), a row a label, summed over the seeds."""
    size = len(study.classes)
    counts = np.zeros((size, size), np.int64)
    for run in study.at(condition, ratio):
        np.add.at(counts, (study.labels, study.predictions(run)), 1)
    return counts


def curves_plot(study: Study, ratio: float, curves: pd.DataFrame) -> Figure:
    """Validation figures by epoch: seeds thin, their mean thick.

    curves: columns condition, ratio, seed, epoch, cross_entropy, accuracy.
    """
    at_ratio = curves[curves["ratio"] == ratio]
    with mpl.rc_context(STYLE):
        figure, axes = grid(2, 2, (4.3, 3.4))
        for axis, (figure_name, said) in zip(axes, reversed(FIGURES.items()), strict=True):
            for condition, look in looks(study.conditions).items():
                of_condition = at_ratio[at_ratio["condition"] == condition]
                if of_condition.empty:
                    continue
                table = of_condition.pivot(index="epoch", columns="seed", values=figure_name)
                axis.plot(table.index, table, color=look.colour, alpha=0.25, linewidth=0.8)
                axis.plot(
                    table.index, table.mean(axis=1), color=look.colour, linestyle=look.line,
                    marker=look.marker, markevery=max(1, len(table) // 8), label=condition,
                )  # fmt: skip
            axis.set(xlabel="epoch", ylabel=f"validation {said}")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, axes)
    return figure


def _against_ratio(
    study: Study,
    names: Sequence[str],
    titles: Sequence[str],
    *,
    columns: int,
    size: tuple[float, float],
    recall: bool = False,
) -> Figure:
    """A panel a figure: means with bands, seeds as faint points."""
    alone = len(study.ratios) == 1
    with mpl.rc_context(STYLE):
        figure, axes = grid(len(names), min(columns, len(names)), size)
        for axis, name, title in zip(axes, names, titles, strict=True):
            for place, condition in enumerate(study.conditions):
                _draw(axis, study, condition, name, None if alone else place)
            if recall:
                axis.set_title(title)
                axis.set_ylim(-0.04, 1.04)
            else:
                axis.set_ylabel(f"test {title}")
            if alone:
                ticks = [] if recall else [_short(name) for name in study.conditions]
                axis.set_xticks(range(len(ticks)), ticks)
                axis.margins(x=0.15)
            else:
                axis.set_xticks(study.ratios, [ratio_said(r) for r in study.ratios])
        label = f"r = {ratio_said(study.ratios[0])}" if alone else "training-data ratio r"
        figure.supxlabel(label, fontsize=9)
        if recall:
            figure.supylabel("test recall", fontsize=9)
        legend(figure, axes)
    return figure


def _draw(axis: Axes, study: Study, condition: str, name: str, place: int | None) -> None:
    """A condition in a panel; place: its rank, for its points to stand beside the others'; None
    where there is one ratio: then conditions stand side by side."""
    look = looks(study.conditions)[condition]
    rank = study.conditions.index(condition)
    ratios = [ratio for ratio in study.ratios if study.at(condition, ratio)]
    results = [study.interval(condition, ratio, name) for ratio in ratios]
    means = [result.estimate for result in results]
    x = np.array(ratios) if place is not None else np.array([float(rank)])
    width = np.diff(study.ratios).min() if place is not None else 1.0
    aside = (rank - (len(study.conditions) - 1) / 2) * 0.07 * width if place is not None else 0.0
    for at, ratio in zip(x, ratios, strict=True):
        values = study.values(study.at(condition, ratio), name)[0]
        axis.plot(
            np.full(len(values), at + aside + (0.2 if place is None else 0)), values, look.marker,
            color=look.colour, alpha=0.35, markersize=3, markeredgewidth=0,
        )  # fmt: skip
    low, high = ([getattr(r, side) for r in results] for side in ("low", "high"))
    if len(ratios) > 1:
        axis.fill_between(x, low, high, color=look.colour, alpha=0.12, linewidth=0)
    else:
        # An interval need not hold its estimate, so it is a line of its own and no error bar.
        axis.vlines(x + aside, low, high, color=look.colour, linewidth=1.2, alpha=0.8)
    shift = aside if len(ratios) == 1 else 0
    axis.plot(
        x + shift, means, color=look.colour, linestyle=look.line, marker=look.marker,
        label=condition,
    )  # fmt: skip


def _write_counts(axis: Axes, counts: np.ndarray[tuple[int, int]], shares: object) -> None:
    size = 7.5 if len(counts) <= 10 else 5
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = np.asarray(shares)[row, column] > 0.5
            axis.text(
                column, row, str(count), ha="center", va="center", fontsize=size,
                color="white" if dark else "#222222",
            )  # fmt: skip


def grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes in rows of at most `columns`, each of a size in inches."""
    columns = min(columns, count)
    rows = ceil(count / columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One above the figure, of all that any panel holds."""
    found = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    wide = 0.75 + 0.075 * max(map(len, found), default=0)  # inches that an entry takes
    columns = int(np.clip(figure.get_figwidth() / wide, 1, min(max(len(found), 1), 4)))
    figure.legend(found.values(), found, loc="outside upper center", ncols=columns, handlelength=3)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
