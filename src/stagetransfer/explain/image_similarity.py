"""How alike two pictures are: the two measures of Adebayo et al. 2018, image by image."""

from __future__ import annotations

import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure


def rank_correlation(a: Tensor, b: Tensor, *, absolute: bool = True) -> Tensor:
    """Spearman's rank correlation over the values of each image: (N, ...) twice to (N,) in [-1, 1].

    Equal values share their mean rank: pools and ReLUs leave many zeros. `absolute` ranks the
    magnitudes, which is where the pictures have their strength; without it a picture and its
    negative, which look much alike, get -1. Adebayo et al. give both. With a plain image, which
    has no sign, as it is before normalisation, `absolute` compares strength with brightness.

    Returns float64 on the CPU; NaN where one of the two is constant. Raises ValueError if the
    shapes differ.
    """
    _check(a, b)
    ranks = []
    for values in (a, b):
        flat = values.detach().flatten(1).cpu().double()
        rank = torch.from_numpy(rankdata((flat.abs() if absolute else flat).numpy(), axis=1))
        ranks.append(rank - rank.mean(1, keepdim=True))
    x, y = ranks
    return (x * y).sum(1) / (x.square().sum(1) * y.square().sum(1)).sqrt()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each image: (N, C, H, W) twice to (N,), 1 for equal pictures.

    Wang et al. 2004 with their constants: Gaussian window of sigma 1.5, k1 = 0.01, k2 = 0.03, mean
    over channels. Each image is first brought to [0, 1] by its own least and greatest value (a
    constant one to 0), since the pictures have no scale of their own; so the measure does not
    change with brightness and contrast, but with the sign.

    H and W are 6 or more. Returns float64 on the CPU. Raises ValueError if the shapes differ or
    are smaller.
    """
    _check(a, b)
    if a.dim() != 4 or min(a.shape[2:]) < 6:
        raise ValueError(f"needs (N, C, H, W) with H and W of 6 or more, not {tuple(a.shape)}")
    # float32 is 15 times as fast here and, with values in [0, 1], right to about 1e-6.
    result = structural_similarity_index_measure(
        _unit(a).float(), _unit(b).float(), reduction="none", data_range=1.0
    )
    assert isinstance(result, Tensor)
    return result.double()


def _unit(images: Tensor) -> Tensor:
    wide = images.detach().cpu().double()
    low, high = wide.amin((1, 2, 3), keepdim=True), wide.amax((1, 2, 3), keepdim=True)
    return (wide - low) / torch.where(high > low, high - low, 1)


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.dim() < 2:
        raise ValueError(f"needs two (N, ...) of one shape, not {tuple(a.shape)}, {tuple(b.shape)}")
