"""Building blocks of the three embedded domains: their result, seeding, grids, noise, strokes.

Every image has its own random generator, seeded by the image's description and not by the number
of images before it. More images per class therefore leave the earlier ones unchanged.
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stagetransfer.errors import UserError

Field = NDArray[np.float32]
Rng = np.random.Generator


def generator(*key: int | str) -> Rng:
    """Return a PCG64 seeded by the SHA-256 of the key, e.g. (seed, "texture", "bricks", 3)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def check_options(domain: str, size: int, per_class: int = 1) -> None:
    """Raise UserError for images too small for the patterns, or for more than memory holds."""
    for name, value, least, most in (("per_class", per_class, 1, 10**5), ("size", size, 16, 1024)):
        if not least <= value <= most:
            raise UserError(f"embedded {domain}: {name} is {value}, give from {least} to {most}")


def grid(n: int, step: float = 1.0) -> tuple[Field, Field]:
    """Return x (to the right) and y (down), each (n, n), centred on 0; a pixel is `step` wide."""
    axis = ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
    return np.broadcast_to(axis[None, :], (n, n)), np.broadcast_to(axis[:, None], (n, n))


def band_noise(rng: Rng, n: int, period: float, width: float = 0.35, stretch: float = 1.0) -> Field:
    """Return Gaussian noise (n, n) in a band of frequencies, with mean 0 and deviation 1.

    The spectrum is exp(-(log2(f period) / width)^2 / 2), with f in cycles per pixel and the period
    in pixels. The grains are `stretch` times longer along y. The noise is periodic at the borders.
    """
    fx = np.fft.rfftfreq(n)[None, :]
    fy = np.fft.fftfreq(n)[:, None] * stretch
    octave = np.log2(np.maximum(np.hypot(fx, fy), 1e-9) * period)
    spectrum = np.fft.rfft2(rng.standard_normal((n, n))) * np.exp(-0.5 * (octave / width) ** 2)
    noise = np.fft.irfft2(spectrum, s=(n, n))
    return np.asarray(noise / np.sqrt(np.mean(noise**2) + 1e-24), np.float32)


def jittered_points(rng: Rng, side: float, spacing: float, jitter: float) -> Field:
    """Return (K, 2) points x, y of a hexagonal grid over a centred square and a margin.

    Each point is moved by up to jitter * spacing; the whole grid has a random offset.
    """
    pitch = spacing * np.array([1.0, 0.866])
    half = side / 2 + 2 * spacing
    columns, rows = np.meshgrid(*(np.arange(-end, end + 1) for end in np.ceil(half / pitch)))
    points = np.stack([columns + 0.5 * (rows % 2), rows], axis=-1).reshape(-1, 2)
    points += rng.uniform(0, 1, 2)
    points += rng.uniform(-jitter, jitter, points.shape)
    points *= pitch
    near = np.abs(points).max(axis=1) < side / 2 + 1.3 * spacing
    return np.asarray(points[near], np.float32)


def voronoi(x: Field, y: Field, points: Field) -> tuple[Field, Field, NDArray[np.intp]]:
    """Return distances to the nearest and second nearest point, and the nearest point's number."""
    near = np.full(x.shape, np.inf, np.float32)
    second = near.copy()
    which = np.zeros(x.shape, np.intp)
    for i, (px, py) in enumerate(points):
        d = (x - px) ** 2 + (y - py) ** 2
        np.minimum(second, np.maximum(near, d), out=second)
        which[d < near] = i
        np.minimum(near, d, out=near)
    return np.sqrt(near), np.sqrt(second), which


def radius(x: Field, y: Field) -> Field:
    """Return the distance from the origin; for float32, several times as fast as hypot."""
    return np.sqrt(x * x + y * y)


def stroke(x: Field, y: Field, a: ArrayLike, b: ArrayLike) -> Field:
    """Return the distance from every pixel to the segment from a = (x, y) to b."""
    (ax, ay), (bx, by) = np.asarray(a, np.float32), np.asarray(b, np.float32)
    dx, dy = bx - ax, by - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return radius(x - ax - along * dx, y - ay - along * dy)


def step(edge: Field, softness: float = 1.0) -> Field:
    """Return 0 where edge <= -softness / 2, 1 where edge >= softness / 2, linear between."""
    return np.asarray(np.clip(edge / softness + 0.5, 0, 1), np.float32)


def to_uint8(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Convert [0, 1] to [0, 255], rounded and clipped."""
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), np.uint8)
