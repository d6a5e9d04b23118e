"""Plots of the measures: points with intervals, one panel per measure."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stagetransfer.figures import COLOURS, MARKERS, STYLE, new_figure

Points = NDArray[np.float64]
"""(ticks, 3): a value, and the lower and upper end of its interval."""

_MOST_LETTERS = 48  # of all ticks together, below a panel


def similarity_figure(table: pd.DataFrame) -> Figure:
    """Plot `MeasureTables.similarity`: one panel per measure, one line per condition."""
    labels = {
        "ssim_input": "SSIM with the input",
        "rank_input": "rank correlation with the input",
        "ssim_trained": "SSIM with the trained network's map",
        "rank_trained": "rank correlation with the trained network's map",
    }
    panels: dict[str, dict[str, Points]] = {label: {} for label in labels.values()}
    for (measure, condition), rows in table.groupby(["measure", "condition"], sort=False):
        panels[labels[str(measure)]][str(condition)] = _points(rows, "value")
    levels = list(dict.fromkeys(table["random_from"]))
    return _panels(
        panels,
        levels,
        title=f"Control: similarity of the maps, blocks get random weights from {levels[1]} on",
        xlabel="first block with random weights",
        limits=(-0.3, 1.05),
    )


def edge_figure(table: pd.DataFrame) -> Figure:
    """Plot `MeasureTables.edges`: conditions side by side."""
    area = table[["edge_area"]].assign(low=np.nan, high=np.nan)
    lines = {
        "trained": _points(table, "edge_share"),
        "random weights": _points(table, "random_weights"),
        "share of the area": area.to_numpy(float),
    }
    return _panels(
        {"share of energy on edges": lines},
        list(table["condition"]),
        title="Share of the maps' energy on edges of the input",
        xlabel="condition",
        joined=False,
    )


def cka_between_figure(table: pd.DataFrame) -> Figure:
    """Plot `MeasureTables.cka_between` by block: one line per pair of conditions."""
    names = table["a"] + " - " + table["b"]
    return _cka_figure(table, names, "Similarity of the conditions' features, same seed")


def cka_transfer_figure(table: pd.DataFrame) -> Figure:
    """Plot `MeasureTables.cka_transfers` by block: one line per transfer."""
    names = table["condition"] + ": " + table["before"] + " to " + table["after"]
    return _cka_figure(table, names, "Features before and after each transfer")


def _cka_figure(table: pd.DataFrame, names: pd.Series, title: str) -> Figure:
    by_name = table[["cka", "least", "greatest"]].groupby(names, sort=False)
    lines = {str(name): values.to_numpy(float) for name, values in by_name}
    return _panels(
        {"linear CKA (unbiased)": lines},
        list(dict.fromkeys(table["layer"])),
        title=title,
        xlabel="block; bars show the range over seeds",
        limits=(-0.1, 1.05),
    )


def _points(table: pd.DataFrame, name: str) -> Points:
    return table[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)


def _panels(
    panels: Mapping[str, Mapping[str, Points]],
    ticks: Sequence[str],
    *,
    title: str,
    xlabel: str,
    limits: tuple[float, float] | None = None,
    joined: bool = True,
) -> Figure:
    """Return panels, by the label of their y axis, side by side with one legend.

    NaN leaves a gap; an interval with NaN is not drawn. With `limits`, all panels share the y axis.
    `joined` connects the points of a line, for ticks that have an order.
    """
    # Many or long names of ticks stand upright, or they would hide each other.
    upright = sum(map(len, ticks)) > _MOST_LETTERS
    with mpl.rc_context({**STYLE, "font.size": 8, "axes.grid.axis": "y"}):
        figure = new_figure(4.2 * len(panels) + 2.2, 4.0 if upright else 3.4)  # with the legend
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=limits is not None)[0]
        for axis, (ylabel, lines) in zip(axes, panels.items(), strict=True):
            for number, (name, points) in enumerate(lines.items()):
                value, low, high = points.T
                shift = 0.08 * (number - (len(lines) - 1) / 2)  # keeps bars from hiding each other
                axis.errorbar(
                    np.arange(len(ticks)) + shift,
                    value,
                    yerr=np.nan_to_num(np.clip([value - low, high - value], 0, None)),
                    color=COLOURS[number % len(COLOURS)],
                    marker=MARKERS[number % len(MARKERS)],
                    markersize=4,
                    linewidth=1.2 if joined else 0,
                    elinewidth=0.8,
                    label=name,
                )
            axis.set_xticks(range(len(ticks)), ticks, rotation=90 if upright else 0)
            axis.set(xlabel=xlabel, ylabel=ylabel, ylim=limits)
        figure.suptitle(title, fontsize=10)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")
    return figure
