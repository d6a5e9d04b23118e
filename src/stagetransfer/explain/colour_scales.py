"""From signed pictures without a scale to colours."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.errors import UserError

Scale = Literal["official", "perceptual"]
SCALES: tuple[str, ...] = get_args(Scale)

_TINY = 1e-5
_BRIGHTEST = 0.995


def coloured(pictures: Tensor, scale: str = "official") -> NDArray[np.float64]:
    """Pictures (N, 3, H, W), signed, as RGB (N, H, W, 3) in [0, 1]; each by its own scale.

    * "official": as Mahendran & Vedaldi's published code draws them (ECCV 2016, footnote 4): a
      sigmoid in which 0 is mid-grey and the 0.5 % quantile a becomes 0.01 (and -a 0.99), in the
      colours of the input. Where that quantile is almost 0, a is the least value.
    * "perceptual": the magnitude over the colours, from 0 to its 99.5 % quantile, in magma, whose
      lightness rises evenly; loses sign and hue, shows strength alone.

    A picture of zeros is mid-grey, or black. Raises UserError for another scale.
    """
    if scale not in SCALES:
        raise UserError(f"scale={scale}: unknown; use one of {', '.join(SCALES)}")
    x = pictures.detach().cpu().double()
    return _official(x) if scale == "official" else _perceptual(x)


def _official(pictures: Tensor) -> NDArray[np.float64]:
    flat = pictures.flatten(1)
    low = flat.quantile(0.005, dim=1)
    low = torch.where(low.abs() < _TINY, flat.amin(1), low)
    # A picture without negative values has its scale from the other side.
    low = torch.where(low < 0, low, -flat.quantile(_BRIGHTEST, dim=1).clamp_min(0))
    unit = torch.where(low < 0, low, -1).view(-1, 1, 1, 1)
    scaled = torch.sigmoid(-math.log(99) * pictures / unit)
    return np.asarray(scaled.permute(0, 2, 3, 1).numpy())


def _perceptual(pictures: Tensor) -> NDArray[np.float64]:
    strength = pictures.square().sum(1).sqrt()
    top = strength.flatten(1).quantile(_BRIGHTEST, dim=1).view(-1, 1, 1)
    unit = (strength / torch.where(top > 0, top, 1)).clamp(0, 1)
    return np.asarray(colormaps["magma"](unit.numpy())[..., :3])


def plain(images: Tensor, mean: Tensor, std: Tensor) -> NDArray[np.float64]:
    """Network inputs (N, 3, H, W) as the RGB (N, H, W, 3) in [0, 1] they were made from."""
    rgb = images.detach().cpu() * std + mean
    return np.asarray(rgb.clamp(0, 1).permute(0, 2, 3, 1).double().numpy())
