"""Figure 5: accuracy and cross-entropy against the training-data ratio r; also recall by class."""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stagetransfer.figures import STYLE
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages import plots
from stagetransfer.runs.study import Study

LABELS = {"accuracy": "accuracy", "cross_entropy": "cross-entropy (nats)"}
TITLE = "Figure 5. Test accuracy and cross-entropy against the training-data ratio r"
CAPTION = (
    "Mean over seeds with its 95 % interval. Each faint point is one seed; a cross is one that did "
    "not learn."
)


def figure_5(study: Study, metrics: Iterable[str] = tuple(LABELS)) -> Figure:
    """Return Figure 5; if all runs have one ratio, the conditions are side by side instead."""
    return _plot(study, {metric: f"test {LABELS[metric]}" for metric in metrics})


def recall_plot(study: Study) -> Figure:
    """Return the recall of each class against r; at most `plots.MAX_CLASSES` classes."""
    support = np.bincount(study.labels, minlength=len(study.classes))
    drawn = [(study.classes[i], support[i]) for i in plots.classes_to_draw(study) if support[i]]
    titles = {f"recall:{name}": f"{plots.shorten(name)} (n = {count})" for name, count in drawn}
    return _plot(study, titles, recall=True)


@mpl.rc_context(STYLE)
def _plot(study: Study, titles: Mapping[str, str], *, recall: bool = False) -> Figure:
    """Draw one panel per metric; in small panels for recall, the titles are above them."""
    one_ratio = len(study.ratios) == 1
    columns, size = (4, (2.3, 2.1)) if recall else (2, (4.3, 3.6))
    figure, axes = plots.grid(len(titles), columns, size)
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
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
    x_label = (
        f"r = {fmt.ratio(study.ratios[0])}" if one_ratio else f"share r of the {study.share.of}"
    )
    plots.label_axes(figure, x_label, "test recall" if recall else "")
    plots.legend(figure, axes)
    return figure


def _draw_condition(axis: Axes, study: Study, condition: str, metric: str) -> None:
    """Draw the mean, the interval and the single seeds of one condition into a panel."""
    style = plots.condition_styles(study.conditions)[condition]
    index = study.conditions.index(condition)
    ratios = [ratio for ratio in study.ratios if study.at(condition, ratio)]
    found = [study.interval(condition, ratio, metric) for ratio in ratios]
    if len(study.ratios) == 1:
        x, shift, seeds_shift = np.array([float(index)]), 0.0, 0.2
    else:  # the points of the conditions are moved apart a little, so that none hides another
        step = 0.07 * float(np.diff(study.ratios).min())
        shift = seeds_shift = (index - (len(study.conditions) - 1) / 2) * step
        x = np.array(ratios)
    colour = style["color"]
    faint: dict[str, Any] = {"alpha": 0.35, "markersize": 3, "markeredgewidth": 0}
    for at, ratio in zip(x, ratios, strict=True):
        runs = study.at(condition, ratio)
        values = study.values(runs, metric)[0]
        at_seeds = np.full(len(values), at + seeds_shift)
        learned = np.array([run.learned for run in runs])
        axis.plot(at_seeds[learned], values[learned], style["marker"], color=colour, **faint)
        axis.plot(at_seeds[~learned], values[~learned], "x", color=colour, markersize=5)
    estimates, low, high = zip(*((x.estimate, x.low, x.high) for x in found), strict=True)
    if len(ratios) > 1:
        axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    else:
        # Not an error bar, because the interval may lie beside the estimate.
        x = x + shift
        axis.vlines(x, low, high, color=colour, linewidth=1.2, alpha=0.8)
    axis.plot(x, estimates, label=plots.label(study, condition), **style)
