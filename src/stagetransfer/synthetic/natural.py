"""The embedded natural domain: one object per scene, whose shape alone is its class."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from stagetransfer.layouts.samples import Samples
from stagetransfer.synthetic.fields import (
    Field,
    band_noise,
    check_options,
    generator,
    grid,
    radius,
    step,
    stroke,
    to_uint8,
)


def _polygon(x: Field, y: Field, corners: ArrayLike) -> Field:
    """Return the signed distance to a closed polygon (K, 2), negative inside."""
    points = np.asarray(corners, np.float32)
    distance = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    for a, b in zip(points, np.roll(points, 1, axis=0), strict=True):
        np.minimum(distance, stroke(x, y, a, b), out=distance)
        if a[1] != b[1]:  # even-odd rule: does a ray to the right cross this edge?
            crossing = a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
            inside ^= ((a[1] > y) != (b[1] > y)) & (x < crossing)
    return np.where(inside, -distance, distance)


def _box(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    return np.maximum(np.abs(x) - np.float32(half_width), np.abs(y) - np.float32(half_height))


def _arrow(x: Field, y: Field) -> Field:
    half = [(1, 0), (0.15, 0.75), (0.15, 0.28), (-1, 0.28)]
    return _polygon(x, y, half + [(a, -b) for a, b in reversed(half[1:])])


def _crescent(x: Field, y: Field) -> Field:
    hollow = np.float32(0.85) - radius(x - np.float32(0.5), y)
    return np.asarray(np.maximum(radius(x, y) - np.float32(1), hollow), np.float32)


def _house(x: Field, y: Field) -> Field:
    walls = _polygon(x, y, [(-0.7, 0.9), (-0.7, -0.1), (0, -0.95), (0.7, -0.1), (0.7, 0.9)])
    door = _box(x, y - np.float32(0.6), 0.2, 0.4)
    window = _box(x, y + np.float32(0.1), 0.22, 0.15)
    return np.maximum(walls, -np.minimum(door, window))


def _ladder(x: Field, y: Field) -> Field:
    rails = _box(np.abs(x) - np.float32(0.5), y, 0.12, 1.05)
    rungs = np.abs(np.mod(y, 0.46) - np.float32(0.23)) - np.float32(0.09)
    return np.minimum(rails, np.maximum(rungs, _box(x, y, 0.5, 0.92)))


def _star(x: Field, y: Field) -> Field:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, 0.45, 1.1)
    return _polygon(x, y, np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1))


# Signed distances in the object's own coordinates; it roughly fills the unit circle.
SHAPES: dict[str, Callable[[Field, Field], Field]] = {
    "arrow": _arrow,
    "box": lambda x, y: _box(x, y, 0.8, 0.8),
    "crescent": _crescent,
    "cross": lambda x, y: np.minimum(_box(x, y, 0.95, 0.3), _box(x, y, 0.3, 0.95)),
    "disc": lambda x, y: radius(x, y) - np.float32(0.95),
    "house": _house,
    "ladder": _ladder,
    "ring": lambda x, y: np.abs(radius(x, y) - np.float32(0.74)) - np.float32(0.24),
    "star": _star,
    "triangle": lambda x, y: _polygon(x, y, [(0, -1.05), (0.95, 0.7), (-0.95, 0.7)]),
}


def _paint(canvas: Field, cover: Field, colour: NDArray[np.floating]) -> Field:
    """Blend a colour (3,) or image (n, n, 3) into the canvas; `cover` (n, n) is its opacity."""
    return np.asarray(canvas + cover[..., None] * (colour - canvas), np.float32)


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a colour of any brightness and moderate saturation."""
    return np.clip(rng.uniform(0.1, 0.9) + rng.uniform(-0.35, 0.35, 3), 0, 1)


def _background(rng: np.random.Generator, x: Field, y: Field, colour: NDArray[np.float64]) -> Field:
    """Draw a gradient with soft clouds and a few strokes, all of similar colours."""
    n = len(x)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * x + np.sin(angle) * y) / n * rng.uniform(0.1, 0.5)
    clouds = 0.06 * rng.uniform(0, 1) * band_noise(rng, n, n / rng.uniform(2, 6), 0.8)
    canvas = np.asarray(colour + (ramp + clouds)[..., None] * rng.uniform(0.5, 1, 3), np.float32)
    for _ in range(rng.integers(1, 5)):
        a, b = rng.uniform(-0.6, 0.6, (2, 2)) * n
        cover = step(rng.uniform(0.008, 0.03) * n - stroke(x, y, a, b))
        canvas = _paint(canvas, 0.8 * cover, colour + rng.normal(0, 0.1, 3))
    return canvas


def _scene(rng: np.random.Generator, shape: Callable[[Field, Field], Field], n: int) -> Field:
    """Draw one RGB scene (n, n, 3), roughly in [0, 1]: background, object, occlusion, camera."""
    x, y = grid(n)
    back, front = _colour(rng), _colour(rng)
    while np.abs(front - back).max() < 0.45:  # keep the object visible
        front = _colour(rng)
    canvas = _background(rng, x, y, back)

    extent = rng.uniform(0.3, 0.42) * n
    angle, shear = rng.uniform(-0.6, 0.6), rng.uniform(-0.15, 0.15)
    stretch = rng.uniform(0.85, 1.18)
    cx, cy = rng.uniform(-0.08, 0.08, 2) * n
    u = (np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)) / extent
    v = (np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)) / extent
    distance = shape((u + shear * v) * stretch, v / stretch) * np.float32(extent)
    cover = step(-distance)

    shadow = ndimage.gaussian_filter(cover, n / 32)
    shadow = ndimage.shift(shadow, rng.uniform(-0.06, 0.06, 2) * n, order=1)
    canvas = canvas * (1 - rng.uniform(0, 0.4) * shadow[..., None])
    light = rng.uniform(0, 2 * np.pi)
    shade = 1 + rng.uniform(0, 0.3) * (np.cos(light) * u + np.sin(light) * v)
    shade -= rng.uniform(0, 0.35) * np.exp(np.minimum(distance, 0) * 24 / n, dtype=np.float64)
    shade += rng.uniform(0, 0.08) * band_noise(rng, n, n / rng.uniform(5, 16))
    canvas = _paint(canvas, cover, front * shade[..., None])

    if rng.random() < 0.3:
        off, tilt = rng.uniform(0.3, 0.8) * extent, rng.uniform(0, 2 * np.pi)
        middle = np.array([cx + off * np.cos(tilt), cy + off * np.sin(tilt)])
        along = n * np.array([-np.sin(tilt), np.cos(tilt)])
        bar = step(rng.uniform(0.02, 0.05) * n - stroke(x, y, middle - along, middle + along))
        canvas = _paint(canvas, bar, _colour(rng))

    canvas = ndimage.gaussian_filter(canvas, (*[rng.uniform(0.2, 0.9) * n / 64] * 2, 0))
    noisy = canvas + rng.normal(0, rng.uniform(0.005, 0.04), canvas.shape)
    return np.asarray(noisy * rng.uniform(0.75, 1.2), np.float32)


def natural(seed: int = 0, per_class: int = 120, size: int = 64) -> Samples:
    """Draw scenes with objects of 10 shapes, balanced, without groups and official split.

    Colours, brightness, pose, size, shading, background, occlusion, blur and noise have the same
    distribution in every class. More images per class leave the earlier ones unchanged. The images
    are (10 * per_class, size, size, 3) uint8 RGB.
    """
    check_options("natural", size, per_class)
    images = [
        to_uint8(_scene(generator(seed, "natural", name, i), shape, size))
        for name, shape in SHAPES.items()
        for i in range(per_class)
    ]
    ids = tuple(f"{name}/{i:04d}" for name in SHAPES for i in range(per_class))
    labels = np.repeat(np.arange(len(SHAPES), dtype=np.int64), per_class)
    return Samples(np.stack(images), ids, labels, tuple(SHAPES))
