"""The share of a saliency map's energy that lies on the edges of its image."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

Array = NDArray[np.float64]

GRADIENT_SIGMA = 1.0  # of the Gaussian derivatives, in pixels
INTEGRATION_SIGMA = 2.0  # of the Gaussian window of the structure tensor, in pixels
STRONGEST = 0.2  # the share of an image's pixels that can be edges
COHERENCE = 0.5  # what an edge must exceed, in [0, 1]

# A gradient per pixel below this share of the brightest value is rounding, not an edge.
ROUNDING = 1e-6


def edges(images: Tensor) -> Tensor:
    """Return the edge pixels (N, H, W), boolean and on the CPU, of images (N, C, H, W).

    The structure tensor (Förstner & Gülch 1987) is the outer product of the grey image's gradient,
    averaged over a Gaussian window; its eigenvalues are l1 >= l2. A pixel is an edge if l1 is among
    the largest of its image (strong) and the coherence (l1 - l2) / (l1 + l2) is high (one
    direction). Texture is strong but has no single direction; flat regions have neither.

    The images may be normalised or not: neither brightness nor contrast matters. Grey is the mean
    of the channels. Images are mirrored at their borders.
    """
    grey = images.detach().cpu().double().mean(1).numpy()
    dy, dx = (_filtered(grey, GRADIENT_SIGMA, order) for order in ((1, 0), (0, 1)))
    yy, xx, xy = (_filtered(a, INTEGRATION_SIGMA) for a in (dy * dy, dx * dx, dx * dy))
    trace, gap = yy + xx, np.hypot(xx - yy, 2 * xy)
    largest = (trace + gap) / 2
    threshold = np.quantile(largest, 1 - STRONGEST, axis=(1, 2), keepdims=True)
    floor = (ROUNDING * np.abs(grey).max(axis=(1, 2), keepdims=True)) ** 2
    strong = (largest >= threshold) & (largest > floor)
    return torch.from_numpy(strong & (gap > COHERENCE * trace))


def edge_energy(maps: Tensor, images: Tensor) -> Tensor:
    """Return the share of the energy of maps (N, C, H, W) on the edges of images (N, C, H, W).

    Energy is the sum of squares over the channels. The shares are (N,) float64 in [0, 1], on the
    CPU; NaN for a map of zeros. Compare them with the share of the pixels that are edges, which is
    that of a map that is spread evenly. ValueError if sizes or numbers differ.
    """
    if maps.shape[::2] != images.shape[::2] or maps.shape[3] != images.shape[3]:
        raise ValueError(f"maps {tuple(maps.shape)} do not fit images {tuple(images.shape)}")
    energy = maps.detach().cpu().double().square().sum(1)
    return (energy * edges(images)).sum((1, 2)) / energy.sum((1, 2))


def _filtered(grey: Array, sigma: float, order: tuple[int, int] = (0, 0)) -> Array:
    filtered: Array = gaussian_filter(grey, (0, sigma, sigma), (0, *order), mode="reflect")
    return filtered
