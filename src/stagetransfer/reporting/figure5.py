"""Figure 5: accuracy and cross-entropy against the training-data ratio r; also recall by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stagetransfer.figures import STYLE
from stagetransfer.reporting import formatting as fmt
from stagetransfer.reporting import plots
from stagetransfer.reporting.blocks import Plot
from stagetransfer.runs.study import Study

LABELS = {"accuracy": "accuracy", "cross_entropy": "cross-entropy (nats)"}
"""The metrics of Figure 5."""

CAPTION = "Mean over seeds with its 95 % interval. Each faint point is one seed."


def figure_5(study: Study) -> Figure:
    """Return Figure 5; if all runs have one ratio, the conditions are side by side instead."""
    titles = [f"test {label}" for label in LABELS.values()]
    return _plot(study, list(LABELS), titles, columns=2, size=(4.3, 3.6))


def recall_plot(study: Study) -> Figure:
    """Return the recall of each class against r; at most `plots.MAX_CLASSES` classes."""
    support = np.bincount(study.labels, minlength=len(study.classes))
    drawn = [(study.classes[i], support[i]) for i in plots.classes_to_draw(study) if support[i]]
    metrics = [f"recall:{name}" for name, _ in drawn]
    titles = [f"{plots.shorten(name)} (n = {images})" for name, images in drawn]
    return _plot(study, metrics, titles, columns=4, size=(2.3, 2.1), recall=True)


def figure_5_block(study: Study, out: Path) -> Plot:
    """Write Figure 5 below `out`; return the block that shows it."""
    title = "Figure 5. Test accuracy and cross-entropy against the training-data ratio r"
    return plots.save_plot(figure_5(study), "figure5", title, CAPTION, out)


@mpl.rc_context(STYLE)
def _plot(
    study: Study,
    metrics: Sequence[str],
    titles: Sequence[str],
    *,
    columns: int,
    size: tuple[float, float],
    recall: bool = False,
) -> Figure:
    """Draw one panel per metric; in small panels for recall, the titles are above them."""
    one_ratio = len(study.ratios) == 1
    figure, axes = plots.grid(len(metrics), columns, size)
    for axis, metric, title in zip(axes, metrics, titles, strict=True):
        for condition in study.conditions:
            _draw_condition(axis, study, condition, metric)
        if recall:
            axis.set(title=title, ylim=(-0.04, 1.04))
        else:
            axis.set_ylabel(title)
        if one_ratio:
            ticks = [] if recall else [plots.shorten(name) for name in study.conditions]
            axis.set_xticks(range(len(ticks)), ticks)
            axis.margins(x=0.15)
        else:
            axis.set_xticks(study.ratios, [fmt.ratio(r) for r in study.ratios])
    x_label = f"r = {fmt.ratio(study.ratios[0])}" if one_ratio else "training-data ratio r"
    plots.label_axes(figure, x_label, "test recall" if recall else "")
    plots.legend(figure, axes)
    return figure


def _draw_condition(axis: Axes, study: Study, condition: str, metric: str) -> None:
    """Draw the mean, the interval and the single seeds of one condition into a panel.

    With several ratios, x is the ratio, and the points of the conditions are moved apart a little
    so that none hides another. With one ratio, x is the index of the condition.
    """
    style = plots.condition_styles(study.conditions)[condition]
    index = study.conditions.index(condition)
    ratios = [ratio for ratio in study.ratios if study.at(condition, ratio)]
    found = [study.interval(condition, ratio, metric) for ratio in ratios]
    if len(study.ratios) == 1:
        x, shift, seeds_shift = np.array([float(index)]), 0.0, 0.2
    else:
        step = 0.07 * float(np.diff(study.ratios).min())
        x, shift = np.array(ratios), (index - (len(study.conditions) - 1) / 2) * step
        seeds_shift = shift
    faint: dict[str, Any] = {"alpha": 0.35, "markersize": 3, "markeredgewidth": 0}
    for at, ratio in zip(x, ratios, strict=True):
        values = study.values(study.at(condition, ratio), metric)[0]
        at_seeds = np.full(len(values), at + seeds_shift)
        axis.plot(at_seeds, values, style.marker, color=style.colour, **faint)
    low, high = [result.low for result in found], [result.high for result in found]
    if len(ratios) > 1:
        axis.fill_between(x, low, high, color=style.colour, alpha=0.12, linewidth=0)
    else:
        # Not an error bar, because the interval may lie beside the estimate.
        x = x + shift
        axis.vlines(x, low, high, color=style.colour, linewidth=1.2, alpha=0.8)
    axis.plot(x, [result.estimate for result in found], label=condition, **style.options)
