"""Which share of a picture lies on the edges of the image it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

Array = NDArray[np.float64]

ROUNDING = 1e-6  # gradients below this share of the brightest value a pixel are no edges


@dataclass(frozen=True)
class EdgeRule:
    """What counts as an edge, by the structure tensor (Förstner & Gülch 1987).

    The gradient of the grey image is taken by Gaussian derivatives of `gradient_sigma` pixels; its
    outer product, averaged by a Gaussian of `integration_sigma` pixels, has eigenvalues l1 >= l2.
    An edge is where l1 is among the `strongest` share of its image and the coherence
    (l1 - l2) / (l1 + l2) is above `coherence`: strong, and in one direction. Texture is strong
    without the second, flat regions have neither.
    """

    gradient_sigma: float = 1.0
    integration_sigma: float = 2.0
    strongest: float = 0.2
    coherence: float = 0.5


DEFAULT_RULE = EdgeRule()


def edges(images: Tensor, rule: EdgeRule = DEFAULT_RULE) -> Tensor:
    """The edge pixels (N, H, W), boolean on the CPU, of images (N, C, H, W).

    Images are plain or normalised: neither brightness nor contrast matters. Grey is the mean of
    the channels; beyond the border an image is mirrored.
    """
    grey = images.detach().cpu().double().mean(1).numpy()
    dy, dx = (_filtered(grey, rule.gradient_sigma, order) for order in ((1, 0), (0, 1)))
    yy, xx, xy = (_filtered(a, rule.integration_sigma) for a in (dy * dy, dx * dx, dx * dy))
    trace, gap = yy + xx, np.hypot(xx - yy, 2 * xy)
    greatest = (trace + gap) / 2
    threshold = np.quantile(greatest, 1 - rule.strongest, axis=(1, 2), keepdims=True)
    floor = (ROUNDING * np.abs(grey).max(axis=(1, 2), keepdims=True)) ** 2
    strong = (greatest >= threshold) & (greatest > floor)
    return torch.from_numpy(strong & (gap > rule.coherence * trace))


def edge_energy(pictures: Tensor, images: Tensor, rule: EdgeRule = DEFAULT_RULE) -> Tensor:
    """The share of each picture's energy that lies on the edges of its image: (N,) in [0, 1].

    Energy is the sum of squares over the channels, pictures and images are (N, C, H, W). Compare
    with `edge_share_of_area`: a picture spread evenly has that share. Returns float64 on the CPU;
    NaN for a picture of zeros. Raises ValueError if the shapes do not fit.
    """
    if pictures.dim() != 4 or images.dim() != 4 or _sizes(pictures) != _sizes(images):
        raise ValueError(
            f"needs pictures and images (N, C, H, W) of one N, H, W, not {tuple(pictures.shape)} "
            f"and {tuple(images.shape)}"
        )
    energy = pictures.detach().cpu().double().square().sum(1)
    return (energy * edges(images, rule)).sum((1, 2)) / energy.sum((1, 2))


def edge_share_of_area(images: Tensor, rule: EdgeRule = DEFAULT_RULE) -> Tensor:
    """The share of each image's pixels that are edges: (N,), float64, on the CPU.

    At most `rule.strongest`, and more only by pixels equally strong as the last of these.
    """
    return edges(images, rule).double().mean((1, 2))


def _filtered(grey: Array, sigma: float, order: tuple[int, int] = (0, 0)) -> Array:
    filtered: Array = gaussian_filter(grey, (0, sigma, sigma), (0, *order), mode="reflect")
    return filtered


def _sizes(images: Tensor) -> tuple[int, int, int]:
    return images.shape[0], images.shape[2], images.shape[3]
