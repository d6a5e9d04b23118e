"""Pictures on pages: grids of images with titles, filters, and points with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.figures import COLOURS, MARKERS, new_figure

Image = NDArray[np.float64]
"""(H, W, 3) RGB in [0, 1]."""

Point = tuple[float, float, float]
"""A value, and the ends of its interval."""

_CELL = 1.15  # inches


def image_grid(
    rows: Sequence[Sequence[Image]],
    *,
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    note: str = "",
) -> Figure:
    """A table of images of one size: each row named at its left, each column at its top."""
    height, width = len(rows), len(column_names)
    figure = new_figure(width * _CELL + 0.9, height * _CELL + 0.9)
    axis = figure.subplots()
    cells = [image for row in rows for image in row]
    gap = max(1, cells[0].shape[0] // 16)
    axis.imshow(_page(cells, width, gap), interpolation="nearest")
    tall, wide = (size + gap for size in cells[0].shape[:2])
    axis.set_xticks([(j + 0.5) * wide - gap / 2 for j in range(width)], column_names, fontsize=8)
    axis.set_yticks([(i + 0.5) * tall - gap / 2 for i in range(height)], row_names, fontsize=8)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=10)
    if note:
        figure.supxlabel(note, fontsize=7)
    return figure


def filters(weights: Sequence[Tensor], names: Sequence[str], *, columns: int = 12) -> Figure:
    """The filters of conv1, a panel a network: each (F, 3, h, w), scaled by its own range.

    0 is mid-grey in every filter; the colours are those of the input's channels.
    """
    tallest = max(-(-len(weight) // columns) for weight in weights)
    figure = new_figure(2.9 * len(weights), 2.9 * tallest / columns + 0.5)
    axes = figure.subplots(1, len(weights), squeeze=False)[0]
    for axis, weight, name in zip(axes, weights, names, strict=True):
        axis.imshow(tiled_filters(weight, columns), interpolation="nearest")
        axis.set_title(name, fontsize=8)
        axis.axis("off")
    figure.suptitle("Filters of conv1, each scaled by itself", fontsize=10)
    return figure


def tiled_filters(weight: Tensor, columns: int = 12) -> Image:
    """Filters (F, 3, h, w) on one page, a pixel apart, each scaled so that 0 is mid-grey."""
    filters = weight.detach().cpu().double()
    scale = filters.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    return _page(list((0.5 + 0.5 * filters / scale).permute(0, 2, 3, 1).numpy()), columns, 1)


def _page(images: Sequence[Image], columns: int, gap: int) -> Image:
    """Images of one size on a white page, in rows of `columns`, `gap` pixels apart."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    page = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for number, image in enumerate(images):
        y, x = (number // columns) * (height + gap), (number % columns) * (width + gap)
        page[y : y + height, x : x + width] = image
    return page


def curves(
    panels: Sequence[tuple[str, Mapping[str, Sequence[Point]]]],
    ticks: Sequence[str],
    *,
    title: str,
    xlabel: str,
    limits: tuple[float, float] | None = None,
    joined: bool = True,
) -> Figure:
    """Panels side by side, each (what is on its y axis, {name: (value, low, high) a tick}).

    A NaN leaves a gap; low and high are drawn as bars, and not where they are NaN. `joined` draws
    lines through the points: where ticks have an order.
    """
    figure = new_figure(4.2 * len(panels) + 2.2, 3.4)  # the legend stands beside the panels
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=limits is not None)[0]
    names = list(dict.fromkeys(name for _, lines in panels for name in lines))
    for axis, (ylabel, lines) in zip(axes, panels, strict=True):
        for name, points in lines.items():
            number = names.index(name)
            value, low, high = np.asarray(points, np.float64).T
            shift = 0.08 * (number - (len(names) - 1) / 2)
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
        axis.set_xticks(range(len(ticks)), ticks, fontsize=8)
        axis.set_xlabel(xlabel, fontsize=8)
        axis.set_ylabel(ylabel, fontsize=8)
        axis.tick_params(axis="y", labelsize=8)
        axis.grid(axis="y", alpha=0.3)
        if limits:
            axis.set_ylim(*limits)
    figure.suptitle(title, fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    return figure
