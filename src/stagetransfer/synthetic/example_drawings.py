"""Drawings for the example sets: caricatures, not simulations.

All are uint8 and square with `SIDE` pixels: (SIDE, SIDE) grey or (SIDE, SIDE, 3) colour.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Drawing = Callable[[np.random.Generator], Image]

SIDE = 32

_Y, _X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2


def mucosa(random: np.random.Generator) -> Image:
    """Draw a wall with a fold, in colour."""
    fold = np.exp(-((_across(random) / 2.5) ** 2))
    return _coloured(0.55 + 0.1 * _clouds(random, 4) - 0.3 * fold)


def polyp(random: np.random.Generator) -> Image:
    """Draw a round bulge, lit from one side, with a highlight, in colour."""
    y, x = random.uniform(-4, 4, 2)
    radius = random.uniform(7, 11)
    inside = np.clip(1 - ((_X - x) ** 2 + (_Y - y) ** 2) / radius**2, 0, 1)
    light = np.exp(-((_X - x + radius / 3) ** 2 + (_Y - y + radius / 3) ** 2) / 5)
    return _coloured(0.45 + 0.1 * _clouds(random, 4) + 0.35 * np.sqrt(inside) + 0.3 * light)


def sharp_frame(random: np.random.Generator) -> Image:
    """Draw folds and vessels in focus, in colour."""
    vessels = sum(np.exp(-(_across(random) ** 2)) for _ in range(4))
    return _coloured(0.6 + 0.1 * _clouds(random, 3) - 0.25 * vessels)


def blurred_frame(random: np.random.Generator) -> Image:
    """Draw folds and vessels out of focus, in colour."""
    return np.asarray(gaussian_filter(sharp_frame(random), (5, 5, 0)), np.uint8)


def vessel(random: np.random.Generator) -> Image:
    """Draw a vessel in lung, filled with contrast agent, in grey."""
    return _grey(_vessel(random), random)


def embolus(random: np.random.Generator) -> Image:
    """Draw a vessel with a dark filling defect, in grey."""
    y, x = random.uniform(-2, 2, 2)
    defect = np.exp(-(((_X - x) ** 2 + (_Y - y) ** 2) / 12))
    return _grey(_vessel(random) - 0.55 * defect, random)


def tissue(random: np.random.Generator) -> Image:
    """Draw speckle without a boundary at the centre, in grey."""
    return _grey(np.full((SIDE, SIDE), random.uniform(0.2, 0.6)), random)


def lumen_intima(random: np.random.Generator) -> Image:
    """Draw a dark lumen above, a thin bright line at the centre and grey media below, in grey."""
    depth = _Y + random.uniform(-0.1, 0.1) * _X
    return _grey(0.1 + 0.3 * (depth > 0) + 0.4 * np.exp(-(depth**2)), random)


def media_adventitia(random: np.random.Generator) -> Image:
    """Draw dark media above and bright adventitia from the centre down, in grey."""
    depth = _Y + random.uniform(-0.1, 0.1) * _X
    return _grey(0.25 + 0.55 * (depth > 0), random)


def _across(random: np.random.Generator) -> Array:
    """Return each pixel's distance from a random line, in pixels."""
    angle, offset = random.uniform(0, np.pi), random.uniform(-8, 8)
    return np.asarray(_X * np.cos(angle) + _Y * np.sin(angle) - offset)


def _clouds(random: np.random.Generator, width: float) -> Array:
    """Return smooth noise of standard deviation 1."""
    smooth = gaussian_filter(random.normal(size=(SIDE, SIDE)), width)
    return np.asarray(smooth / smooth.std())


def _vessel(random: np.random.Generator) -> Array:
    return np.asarray(0.15 + 0.7 * (np.abs(_across(random)) < random.uniform(9, 13)))


def _coloured(light: Array) -> Image:
    return _uint8(light[..., None] * np.array([1.0, 0.6, 0.5]))


def _grey(light: Array, random: np.random.Generator) -> Image:
    return _uint8(gaussian_filter(light, 0.7) + 0.06 * random.normal(size=light.shape))


def _uint8(light: Array) -> Image:
    return np.asarray(np.clip(255 * light, 0, 255), np.uint8)
