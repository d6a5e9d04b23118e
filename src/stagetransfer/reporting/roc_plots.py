"""The plots of ROC and FROC curves, with intervals as bars at some rates of false positives."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from stagetransfer.figures import STYLE
from stagetransfer.pages import plots
from stagetransfer.runs.roc_study import RocStudy


@mpl.rc_context(STYLE)
def roc_plot(rocs: RocStudy, ratio: float, metrics: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Return one panel per class and one curve per condition, with intervals as bars."""
    side = 3.4 if len(rocs.positives) > 1 else 4.6
    figure, axes = plots.grid(len(rocs.positives), 4, (side, side))
    styles = plots.condition_styles(rocs.study.conditions)
    for axis, name in zip(axes, rocs.positives, strict=True):
        axis.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=0.8)
        for index, condition in enumerate(rocs.study.conditions):
            chosen = "condition == @condition and ratio == @ratio and `class` == @name"
            curve, points = curves.query(chosen), metrics.query(chosen)
            if curve.empty:
                continue
            x, y = curve["false_positive_rate"], curve["sensitivity"]
            # Conditions are moved apart, so that no bar hides another.
            rates = np.array(rocs.metrics.rates) + 0.008 * index
            label = plots.label(rocs.study, condition, ratio)
            _draw_curve(axis, np.r_[0, x], np.r_[0, y], rates, points, styles[condition], label)
        axis.set(title=f"{name} against the rest", xlim=(-0.02, 1.04), ylim=(-0.02, 1.04))
    plots.label_axes(figure, "false-positive rate", "sensitivity")
    plots.legend(figure, axes)
    return figure


@mpl.rc_context(STYLE)
def froc_plot(
    figures: pd.DataFrame, curves: pd.DataFrame, read_at: Sequence[float], *, by_case: bool = False
) -> Figure:
    """Return sensitivity against false positives per case on a log axis, with 95 % intervals."""
    figure, axes = plots.grid(1, 1, (5.2, 4.0))
    axis, rates = axes[0], np.array(read_at)
    low, high = rates.min() / 1.5, rates.max() * 1.5
    x = np.geomspace(low, high, 400)
    styles = plots.line_styles(figures["system"].unique())
    for index, (system, style) in enumerate(styles.items()):
        curve, points = (t[t["system"] == system] for t in (curves, figures))
        y = np.interp(x, curve["false_positives_per_case"], curve["sensitivity"])
        # Systems are moved apart, so that no bar hides another.
        _draw_curve(axis, x, y, rates * 1.04**index, points, style, system)
    axis.set_xscale("log", base=2)
    axis.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
    axis.set(xlim=(low, high), ylim=(-0.02, 1.04))
    axis.set_xlabel("mean number of false positives per case")
    axis.set_ylabel(f"sensitivity per {'case' if by_case else 'lesion'}")
    plots.legend(figure, axes)
    return figure


def _draw_curve(
    axis: Axes, x: ArrayLike, y: ArrayLike, rates: ArrayLike, points: pd.DataFrame,
    style: dict[str, Any], label: str,
) -> None:  # fmt: skip
    """Draw a curve, marked at some rates, at which `points` has the sensitivities, in order."""
    points = points[points["figure"].str.startswith("sensitivity_at_")]
    colour = style["color"]
    axis.plot(x, y, color=colour, linestyle=style["linestyle"])
    axis.vlines(rates, points["low"], points["high"], color=colour, linewidth=1)
    axis.plot(rates, points["estimate"], style["marker"], color=colour, markersize=4)
    axis.plot([], [], label=label, **style)
