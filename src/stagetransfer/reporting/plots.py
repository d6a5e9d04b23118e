"""What the plots of a report share: one style per condition, panels, legend, heat maps, saving.

A condition has the same colour, marker and line style in every plot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from stagetransfer.figures import COLOURS, LINES, MARKERS, save_figure
from stagetransfer.reporting.blocks import Plot
from stagetransfer.runs.study import PAPER_ORDER, Study

MAX_CLASSES = 20
"""The largest number of classes that are drawn one by one."""


class LineStyle(NamedTuple):
    """How one condition is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]

    @property
    def options(self) -> dict[str, Any]:
        """The style as keyword arguments of `Axes.plot`."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.line}


def line_styles(names: Iterable[str]) -> dict[str, LineStyle]:
    """Return one style for each name, in the order of the names."""
    styles = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    return {name: LineStyle(*style) for name, style in zip(names, styles, strict=False)}


def condition_styles(conditions: Sequence[str]) -> dict[str, LineStyle]:
    """Return the style of each condition; the paper's four conditions have fixed styles."""
    return line_styles(dict.fromkeys([*PAPER_ORDER, *conditions]))


def classes_to_draw(study: Study) -> list[int]:
    """Return the indices of the `MAX_CLASSES` classes with the fewest test images, in order."""
    support = np.bincount(study.labels, minlength=len(study.classes))
    return sorted(support.argsort(kind="stable")[:MAX_CLASSES].tolist())


def grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels, at most `columns` per row.

    Args:
        size: width and height of one panel in inches.
    """
    columns = min(columns, count)
    rows = ceil(count / columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def label_axes(figure: Figure, x: str, y: str = "") -> None:
    """Write one label per axis for all panels of a figure."""
    figure.supxlabel(x, fontsize=9)
    if y:
        figure.supylabel(y, fontsize=9)


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend above the figure with all labels that any panel has."""
    found = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    inches_per_entry = 0.75 + 0.075 * max(map(len, found), default=0)
    fitting = figure.get_figwidth() / inches_per_entry
    columns = int(np.clip(fitting, 1, min(max(len(found), 1), 4)))
    figure.legend(found.values(), found, loc="outside upper center", ncols=columns, handlelength=3)


def draw_operating_points(
    axis: Axes, rates: ArrayLike, points: pd.DataFrame, style: LineStyle, label: str
) -> None:
    """Mark a curve's sensitivity at some rates, with 95 % intervals, and label it in the legend.

    Args:
        points: one row per rate with the columns estimate, low and high.
    """
    axis.vlines(rates, points["low"], points["high"], color=style.colour, linewidth=1)
    axis.plot(rates, points["estimate"], style.marker, color=style.colour, markersize=4)
    axis.plot([], [], label=label, **style.options)


def draw_heat_map(
    axis: Axes,
    values: np.ndarray[tuple[int, int]],
    names: tuple[Sequence[str], Sequence[str]],
    texts: np.ndarray[tuple[int, int]] | None,
    font_sizes: tuple[float, float] = (9, 8),
    **options: Any,
) -> AxesImage:
    """Draw a matrix as colours, with a text in each cell.

    Args:
        names: of the rows and of the columns.
        texts: one text per cell, empty for none; None: no texts.
        font_sizes: of the names and of the texts, in points.
        options: further arguments of `Axes.imshow`.
    """
    image = axis.imshow(values, **options)
    axis.set_yticks(range(len(names[0])), names[0], fontsize=font_sizes[0])
    axis.set_xticks(range(len(names[1])), names[1], fontsize=font_sizes[0])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    centre: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": font_sizes[1]}
    for (row, column), text in np.ndenumerate([] if texts is None else texts):
        red, green, blue, _ = image.to_rgba(values[row, column])
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        axis.text(column, row, text, color="white" if dark else "black", **centre)
    return image


def save_plot(figure: Figure, stem: str, title: str, caption: str, out: Path) -> Plot:
    """Write plots/<stem>.png and .svg below `out`; return the block that shows them."""
    files = save_figure(figure, out / "plots" / stem)
    return Plot(title, [file.relative_to(out) for file in files], caption)


def shorten(name: str) -> str:
    """Return a name of at most 16 characters."""
    return name if len(name) <= 16 else f"{name[:15]}…"
