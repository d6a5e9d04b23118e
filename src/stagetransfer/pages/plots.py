"""What the plots of a report share: the style of each condition, panels, legends and files."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from stagetransfer.figures import COLOURS, LINES, MARKERS, save_figure
from stagetransfer.files import csv_text, write_text
from stagetransfer.runs.study import PAPER_ORDER, Study

MAX_CLASSES = 20
"""The largest number of classes that are drawn one by one."""


def line_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the style of each name, as arguments of `Axes.plot`, in the order of the names."""
    styles = zip(cycle(COLOURS), cycle(MARKERS), cycle(LINES), strict=False)
    return {
        name: {"color": colour, "marker": marker, "linestyle": line}
        for name, (colour, marker, line) in zip(names, styles, strict=False)
    }


def condition_styles(conditions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the style of each condition; the paper's four conditions have fixed styles."""
    return line_styles(dict.fromkeys([*PAPER_ORDER, *conditions]))


def label(study: Study, condition: str, ratio: float | None = None) -> str:
    """Return a condition for a legend, with the number of its runs (at a ratio) that failed."""
    runs = study.at(condition, ratio)
    failed = sum(not run.learned for run in runs)
    return f"{condition} ({failed} of {len(runs)} did not learn)" if failed else condition


def classes_to_draw(study: Study) -> list[int]:
    """Return the indices of the `MAX_CLASSES` classes with the fewest test images, in order."""
    support = np.bincount(study.labels, minlength=len(study.classes))
    return sorted(support.argsort(kind="stable")[:MAX_CLASSES].tolist())


def grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` panels of this size in inches, at most `columns` per row."""
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
    found: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= zip(labels, handles, strict=True)
    inches_per_entry = 0.75 + 0.075 * max(map(len, found), default=0)
    fitting = figure.get_figwidth() / inches_per_entry
    columns = int(np.clip(fitting, 1, min(max(len(found), 1), 4)))
    figure.legend(found.values(), found, loc="outside upper center", ncols=columns, handlelength=3)


def draw_heat_map(
    axis: Axes,
    values: NDArray[np.float64],
    names: tuple[Sequence[str], Sequence[str]],
    texts: NDArray[np.str_] | None,
    font_sizes: tuple[float, float] = (9, 8),
    **options: Any,
) -> AxesImage:
    """Draw a matrix as colours, with a text in each cell.

    `names` are those of rows and columns, `font_sizes` those of names and texts in points, and
    `options` further arguments of `Axes.imshow`.
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


def write_curve_files(
    out: Path, tables: Mapping[str, pd.DataFrame], plots: Mapping[str, Figure]
) -> None:
    """Write <name>.csv, and <name>.png and .svg; the same numbers give the same files."""
    for name, table in tables.items():
        write_text(out / f"{name}.csv", csv_text(table))
    for name, figure in plots.items():
        save_figure(figure, out / name)


def shorten(name: str) -> str:
    """Return a name of at most 16 characters."""
    return name if len(name) <= 16 else f"{name[:15]}…"
