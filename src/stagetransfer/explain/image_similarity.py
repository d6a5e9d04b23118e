"""How similar two images are: the two measures of Adebayo et al. 2018, per image."""

from __future__ import annotations

import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def rank_correlation(a: Tensor, b: Tensor, *, absolute: bool = True) -> Tensor:
    """Return Spearman's rank correlation over the values of each image: (N,) in [-1, 1].

    Equal values share their mean rank, because pools and ReLUs leave many zeros.

    Args:
        a, b: (N, ...), of the same shape.
        absolute: rank the magnitudes, which show where a saliency map is strong. Without it, a map
            and its negative, which look much alike, have correlation -1. Adebayo et al. report
            both. For an image before normalisation, the magnitude is its brightness.

    Returns:
        float64, on the CPU; NaN where one of the two images is constant.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(a, b)
    ranks = []
    for values in (a, b):
        flat = values.detach().flatten(1).cpu().double()
        rank = torch.from_numpy(rankdata((flat.abs() if absolute else flat).numpy(), axis=1))
        ranks.append(rank - rank.mean(1, keepdim=True))
    x, y = ranks
    return (x * y).sum(1) / (x.square().sum(1) * y.square().sum(1)).sqrt()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of each pair of images: (N,), 1 for equal images.

    Wang et al. 2004 with their constants: Gaussian window of sigma 1.5, k1 = 0.01, k2 = 0.03, mean
    over the channels. Saliency maps have no scale, so each image is first mapped to [0, 1] by its
    own minimum and maximum (a constant one to 0). The result therefore depends on the sign of a
    map, but not on brightness and contrast.

    Args:
        a, b: (N, C, H, W), of the same shape, with H and W of 6 pixels or more.

    Returns:
        float64, on the CPU.

    Raises:
        ValueError: the shapes differ or are too small.
    """
    _check_shapes(a, b)
    if a.dim() != 4 or min(a.shape[2:]) < 6:
        raise ValueError(
            f"a and b: their shape is {tuple(a.shape)}. It must be (N, C, H, W) with H and W of "
            "6 or more."
        )
    # float32 is 15 times as fast and, for values in [0, 1], exact to about 1e-6.
    result = structural_similarity_index_measure(
        _unit_range(a).float(), _unit_range(b).float(), reduction="none", data_range=1.0
    )
    assert isinstance(result, Tensor)
    return result.double()


def _unit_range(images: Tensor) -> Tensor:
    wide = images.detach().cpu().double()
    low, high = wide.amin((1, 2, 3), keepdim=True), wide.amax((1, 2, 3), keepdim=True)
    return (wide - low) / torch.where(high > low, high - low, 1)


def _check_shapes(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.dim() < 2:
        raise ValueError(
            f"a and b: their shapes are {tuple(a.shape)} and {tuple(b.shape)}. "
            "Both must be (N, ...) of one shape."
        )
