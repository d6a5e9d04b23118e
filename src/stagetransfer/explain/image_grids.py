"""Inputs, signed maps and filters as RGB images, and grids of images in one figure."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
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
    """Return a figure of images of one size, with names at the left and top and a note below.

    An image of one colour, such as the map of a network without any signal, says so.
    """
    height, width = len(rows), len(column_names)
    figure = new_figure(width * _CELL + 0.9, height * _CELL + 0.9)
    axis = figure.subplots()
    cells = [image for row in rows for image in row]
    gap = max(1, cells[0].shape[0] // 16)
    axis.imshow(_tiled(cells, width, gap), interpolation="nearest")
    tall, wide = (size + gap for size in cells[0].shape[:2])
    axis.set_xticks([(j + 0.5) * wide - gap / 2 for j in range(width)], column_names, fontsize=8)
    axis.set_yticks([(i + 0.5) * tall - gap / 2 for i in range(height)], row_names, fontsize=8)
    for number, image in enumerate(cells):
        if np.ptp(image, axis=(0, 1)).max() == 0:
            x, y = (number % width) * wide, (number // width) * tall
            axis.text(
                x + wide / 2, y + tall / 2, "constant", ha="center", va="center", fontsize=8,
                bbox={"color": "white", "pad": 1},
            )  # fmt: skip
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

    Each filter is scaled by its own largest magnitude; 0 is mid-grey. UserError if the filters do
    not have 3 channels.
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


_ALMOST_ZERO = 1e-5
_UPPER_QUANTILE = 0.995


def _official(maps: Tensor) -> NDArray[np.float64]:
    flat = maps.flatten(1)
    low = flat.quantile(0.005, dim=1)
    low = torch.where(low.abs() < _ALMOST_ZERO, flat.amin(1), low)
    # A map without negative values is scaled by its upper quantile.
    low = torch.where(low < 0, low, -flat.quantile(_UPPER_QUANTILE, dim=1).clamp_min(0))
    unit = torch.where(low < 0, low, -1).view(-1, 1, 1, 1)
    scaled = torch.sigmoid(-math.log(99) * maps / unit)
    return np.asarray(scaled.permute(0, 2, 3, 1).numpy())


def _perceptual(maps: Tensor) -> NDArray[np.float64]:
    strength = maps.square().sum(1).sqrt()
    top = strength.flatten(1).quantile(_UPPER_QUANTILE, dim=1).view(-1, 1, 1)
    unit = (strength / torch.where(top > 0, top, 1)).clamp(0, 1)
    return np.asarray(colormaps["magma"](unit.numpy())[..., :3])


SCALES: Mapping[str, Callable[[Tensor], NDArray[np.float64]]] = {
    "official": _official,
    "perceptual": _perceptual,
}


def saliency_to_rgb(maps: Tensor, scale: str = "official") -> NDArray[np.float64]:
    """Return signed maps (N, 3, H, W) as RGB images (N, H, W, 3) in [0, 1], each scaled by itself.

    A map of zeros becomes mid-grey ("official") or black ("perceptual").

    Args:
        scale: "official" is the scale of Mahendran & Vedaldi's published code (ECCV 2016, footnote
            4), in the colours of the input's channels: a sigmoid that maps 0 to mid-grey, the 0.5 %
            quantile a to 0.01 and -a to 0.99. Where this quantile is almost 0, a is the minimum.
            "perceptual" shows the magnitude over the channels, from 0 to its 99.5 % quantile, in
            matplotlib's magma, whose lightness rises evenly; sign and hue are lost.
    """
    return SCALES[scale](maps.detach().cpu().double())


def input_to_rgb(images: Tensor, mean: Tensor, std: Tensor) -> NDArray[np.float64]:
    """Return normalised network inputs (N, 3, H, W) as RGB images (N, H, W, 3) in [0, 1]."""
    rgb = images.detach().cpu() * std + mean
    return np.asarray(rgb.clamp(0, 1).permute(0, 2, 3, 1).double().numpy())
