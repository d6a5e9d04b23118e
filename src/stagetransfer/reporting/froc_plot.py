"""The plot of FROC curves."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from stagetransfer.figures import STYLE
from stagetransfer.reporting.plots import draw_operating_points, grid, legend, line_styles
from stagetransfer.runs.froc_study import FrocComparison


@mpl.rc_context(STYLE)
def froc_plot(result: FrocComparison, *, by_case: bool = False) -> Figure:
    """Return sensitivity against false positives per case on a log axis, with 95 % intervals."""
    figure, axes = grid(1, 1, (5.2, 4.0))
    axis, rates = axes[0], np.array(result.rates)
    low, high = rates.min() / 1.5, rates.max() * 1.5
    x = np.geomspace(low, high, 400)
    styles = line_styles(result.figures["system"].unique())
    for index, (system, style) in enumerate(styles.items()):
        curve = result.curves[result.curves["system"] == system]
        y = np.interp(x, curve["false_positives_per_case"], curve["sensitivity"])
        axis.plot(x, y, color=style.colour, linestyle=style.line)
        points = result.figures[result.figures["system"] == system].set_index("figure")
        points = points.loc[[f"sensitivity_at_{rate:g}" for rate in rates]]
        # Systems are moved apart, so that no bar hides another.
        draw_operating_points(axis, rates * 1.04**index, points, style, system)
    axis.set_xscale("log", base=2)
    axis.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
    axis.set(xlim=(low, high), ylim=(-0.02, 1.04))
    axis.set_xlabel("mean number of false positives per case")
    axis.set_ylabel(f"sensitivity per {'case' if by_case else 'lesion'}")
    legend(figure, axes)
    return figure
