"""Colour scales that turn network inputs and signed saliency maps into RGB images."""

import math

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.errors import UserError

SCALES = ("official", "perceptual")

_ALMOST_ZERO = 1e-5
_UPPER_QUANTILE = 0.995


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
    if scale not in SCALES:
        raise UserError(f"scale={scale}: unknown. Use one of {', '.join(SCALES)}.")
    x = maps.detach().cpu().double()
    return _official(x) if scale == "official" else _perceptual(x)


def input_to_rgb(images: Tensor, mean: Tensor, std: Tensor) -> NDArray[np.float64]:
    """Return normalised network inputs (N, 3, H, W) as RGB images (N, H, W, 3) in [0, 1]."""
    rgb = images.detach().cpu() * std + mean
    return np.asarray(rgb.clamp(0, 1).permute(0, 2, 3, 1).double().numpy())


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
