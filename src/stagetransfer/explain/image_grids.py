"""Grids of images in one figure, and the filters of a first layer as an image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from stagetransfer.errors import UserError
from stagetransfer.figures import new_figure
from stagetransfer.models import Backbone

Image = NDArray[np.float64]
"""(H, W, 3) RGB in [0, 1]."""

_CELL = 1.15  # the side of an image in inches
FILTER_COLUMNS = 12


def image_grid(
    rows: Sequence[Sequence[Image]],
    *,
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    note: str = "",
) -> Figure:
    """Return a figure of images of one size, with names at the left and top and a note below."""
    height, width = len(rows), len(column_names)
    figure = new_figure(width * _CELL + 0.9, height * _CELL + 0.9)
    axis = figure.subplots()
    cells = [image for row in rows for image in row]
    gap = max(1, cells[0].shape[0] // 16)
    axis.imshow(_tiled(cells, width, gap), interpolation="nearest")
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


def first_filters(network: Backbone) -> tuple[str, Tensor]:
    """Return the name and the filters (F, C, h, w) of a network's first convolution."""
    modules = network.net.named_modules()
    return next((name, one.weight) for name, one in modules if isinstance(one, nn.Conv2d))


def tiled_filters(weight: Tensor) -> Image:
    """Return filters (F, 3, h, w) as one image, one pixel apart, in the colours of their channels.

    Each filter is scaled by its own largest magnitude; 0 is mid-grey.

    Raises:
        UserError: the filters do not have 3 channels.
    """
    if weight.shape[1] != 3:
        raise UserError(
            f"filters: they have {weight.shape[1]} channels. Only those of RGB images can be shown."
        )
    filters = weight.detach().cpu().double()
    scale = filters.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    images = (0.5 + 0.5 * filters / scale).permute(0, 2, 3, 1)
    return _tiled(list(images.numpy()), FILTER_COLUMNS, gap=1)


def _tiled(images: Sequence[Image], columns: int, gap: int) -> Image:
    """Return images of one size on a white page, in rows of `columns`, `gap` pixels apart."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    page = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for number, image in enumerate(images):
        y, x = (number // columns) * (height + gap), (number % columns) * (width + gap)
        page[y : y + height, x : x + width] = image
    return page
