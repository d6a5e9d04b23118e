"""The embedded texture domain: materials under changing light and view, similar to CUReT."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.layouts.samples import Samples
from stagetransfer.synthetic.fields import (
    Field,
    Rng,
    band_noise,
    check_options,
    generator,
    grid,
    jittered_points,
    radius,
    step,
    to_uint8,
    voronoi,
)

SAMPLES_PER_CLASS = 60
_CANVAS = 160  # side of a sample in texture units; an image shows about 64 units

# Albedo (mixture of two colours, 0 to 1) and height (texture units) of a sample.
Surface = tuple[Field, Field]


def _surface(albedo: NDArray[np.floating], height: NDArray[np.floating]) -> Surface:
    return np.asarray(np.clip(albedo, 0, 1), np.float32), np.asarray(height, np.float32)


def _wave(turns: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return sin(2 pi turns) in float64; float32 sines differ between processors."""
    return np.asarray(np.sin(turns * (2 * np.pi), dtype=np.float64))


def _warped(rng: Rng, x: Field, y: Field, amount: float, period: float) -> Iterator[Field]:
    return (a + np.float32(amount) * band_noise(rng, len(x), period, 0.6) for a in (x, y))


def _bricks(rng: Rng, x: Field, y: Field) -> Surface:
    height = rng.uniform(8, 13)
    width, mortar = height * rng.uniform(1.8, 2.6), rng.uniform(0.7, 1.3)
    row = np.floor(y / height)
    u = x / width + 0.5 * (row % 2)
    tone = rng.uniform(0.55, 1, (64, 64))[row.astype(int) % 64, np.floor(u).astype(int) % 64]
    to_edge = np.minimum(
        (0.5 - np.abs(u % 1 - 0.5)) * width, (0.5 - np.abs(y / height % 1 - 0.5)) * height
    )
    brick = step(np.asarray(to_edge - mortar, np.float32))
    return _surface(brick * tone, 1.2 * brick + 0.12 * band_noise(rng, len(x), 4, 0.6))


def _checker(rng: Rng, x: Field, y: Field) -> Surface:
    period = rng.uniform(14, 24)
    u, v = _warped(rng, x, y, rng.uniform(0.2, 0.8), rng.uniform(30, 60))
    board = _wave(u / period) * _wave(v / period)
    return _surface(board / 0.15 + 0.5, 0.1 * band_noise(rng, len(x), 5, 0.6))


def _corduroy(rng: Rng, x: Field, y: Field) -> Surface:
    period = rng.uniform(5.5, 9)
    u, _ = _warped(rng, x, y, rng.uniform(0.2, 0.8), 40)
    rib = np.abs(_wave(u / (2 * period)))
    fuzz = band_noise(rng, len(x), 3, 0.6)
    return _surface(0.3 + 0.6 * rib + 0.08 * fuzz, 0.22 * period * rib + 0.15 * fuzz)


def _grain(rng: Rng, x: Field, y: Field) -> Surface:
    grain = band_noise(rng, len(x), rng.uniform(2.6, 4.5), 0.3)
    return _surface(0.5 + 0.28 * grain, rng.uniform(0.3, 0.6) * grain)


def _labyrinth(rng: Rng, x: Field, y: Field) -> Surface:
    noise = band_noise(rng, len(x), rng.uniform(7, 11), 0.12)
    maze = step(noise + np.float32(rng.uniform(-0.15, 0.15)), 0.5)
    return _surface(maze, rng.uniform(0.3, 1.2) * maze)


def _marble(rng: Rng, x: Field, y: Field) -> Surface:
    bend = np.sum([band_noise(rng, len(x), 64 / 2**i) / 2**i for i in range(4)], axis=0)
    veins = x / rng.uniform(40, 68) + rng.uniform(0.14, 0.24) * (bend / bend.std())
    return _surface(np.abs(_wave(veins)) ** rng.uniform(0.4, 0.7), np.zeros_like(x))


def _mosaic(rng: Rng, x: Field, y: Field) -> Surface:
    points = jittered_points(rng, _CANVAS, rng.uniform(9, 15), 0.4)
    tone = rng.permutation(np.linspace(0, 1, len(points))).astype(np.float32)
    return _surface(tone[voronoi(x, y, points)[2]], 0.08 * band_noise(rng, len(x), 5, 0.6))


def _pebbles(rng: Rng, x: Field, y: Field) -> Surface:
    spacing = rng.uniform(8, 14)
    points = jittered_points(rng, _CANVAS, spacing, 0.3)
    near, second, cell = voronoi(x, y, points)
    dome = np.sqrt(np.clip((second - near) / np.float32(spacing * 0.8), 0, 1))
    tone = rng.uniform(0.6, 1, len(points)).astype(np.float32)
    return _surface(tone[cell] * step(dome - np.float32(0.25), 0.5), 0.35 * spacing * dome)


def _scales(rng: Rng, x: Field, y: Field) -> Surface:
    pitch = rng.uniform(11, 17)
    rise = 0.5 * pitch
    rim = np.ones_like(x)
    # Rows of discs, shifted by half a pitch; where discs overlap, the upper row is on top.
    for back in (2, 1, 0):
        row = np.floor(y / rise) - back
        u = ((x / pitch + 0.5 * (row % 2)) % 1 - 0.5) * pitch
        reach = radius(u, y - row * rise) / np.float32(0.58 * pitch)
        rim = np.where(reach < 1, reach, rim)
    rim = rim * rim
    return _surface(1.05 - rim * rim, 0.12 * pitch * (1 - rim))


def _streaks(rng: Rng, x: Field, y: Field) -> Surface:
    fibre = band_noise(rng, len(x), rng.uniform(6, 10), 0.9, stretch=rng.uniform(10, 16))
    return _surface(0.5 + 0.3 * fibre, 0.4 * fibre)


def _weave(rng: Rng, x: Field, y: Field) -> Surface:
    period = rng.uniform(6, 10)
    u, v = _warped(rng, x, y, rng.uniform(0.1, 0.4), 40)
    u, v = u / np.float32(period), v / np.float32(period)
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    # The thread on top is parallel to y in one half of the crossings and to x in the other.
    across, along = np.where(over, u, v) % 1, np.where(over, v, u) % 1
    bulge = np.sqrt(_wave(across / 2)) * (0.4 + 0.6 * _wave(along / 2))
    tone = np.where(over, rng.uniform(0.75, 1), rng.uniform(0.35, 0.7))
    return _surface(tone * bulge, 0.2 * period * bulge)


def _zigzag(rng: Rng, x: Field, y: Field) -> Surface:
    period, run = rng.uniform(9, 13), rng.uniform(8, 11)
    u, v = _warped(rng, x, y, 0.3, 40)
    fold = np.abs((u / run) % 2 - 1) * run * rng.uniform(0.8, 1.2)
    return _surface(_wave((v + fold) / period) / 0.6 + 0.5, 0.1 * band_noise(rng, len(x), 5, 0.6))


# None has bright walls around dark cells, isolated bright spots or a bright mesh on a dark ground:
# these are patterns of the target.
MATERIALS: dict[str, Callable[[Rng, Field, Field], Surface]] = {
    "bricks": _bricks,
    "checker": _checker,
    "corduroy": _corduroy,
    "grain": _grain,
    "labyrinth": _labyrinth,
    "marble": _marble,
    "mosaic": _mosaic,
    "pebbles": _pebbles,
    "scales": _scales,
    "streaks": _streaks,
    "weave": _weave,
    "zigzag": _zigzag,
}


def _view(rng: Rng, surface: Surface, colours: Field, size: int) -> Field:
    """Draw one view (size, size, 3), roughly in [0, 1], with its own place, light and camera."""
    x, y = grid(size, 64 / size * rng.uniform(0.9, 1.1))
    turn = rng.uniform(0, 2 * np.pi)
    centre = (_CANVAS - 1) / 2 + rng.uniform(-24, 24, 2)
    row = centre[1] + np.sin(turn) * x + np.cos(turn) * y
    column = centre[0] + np.cos(turn) * x - np.sin(turn) * y
    where = np.stack([row, column])
    albedo, height = (ndimage.map_coordinates(f, where, order=1, mode="wrap") for f in surface)
    slope_y, slope_x = np.gradient(height * (size / 64))
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.3)
    slope = np.cos(azimuth) * slope_x + np.sin(azimuth) * slope_y
    shade = np.sin(elevation) - np.cos(elevation) * slope
    shade = shade / np.sqrt(1 + slope_x**2 + slope_y**2)
    ambient = rng.uniform(0.35, 0.6)
    light = ambient + (1 - ambient) * np.clip(shade, 0, None)
    fall = 1 + rng.uniform(0, 0.3) * (np.cos(azimuth) * x + np.sin(azimuth) * y) / 64
    rgb = colours[0] + albedo[..., None] * (colours[1] - colours[0])
    rgb = rgb * (light * fall)[..., None] * rng.uniform(0.9, 1.1, 3)
    rgb = rgb * rng.uniform(0.75, 1.2) + rng.normal(0, rng.uniform(0.005, 0.03), rgb.shape)
    return np.asarray(rgb, np.float32)


def _colours(rng: Rng) -> Field:
    """Return the colours (2, 3) of dark and light parts of a sample, about 0.3 to 0.55 apart."""
    dark = rng.uniform(0.05, 0.4) * rng.uniform(0.5, 1.2, 3)
    light = (dark.mean() + rng.uniform(0.3, 0.55)) * rng.uniform(0.7, 1.25, 3)
    return np.asarray(np.clip(np.stack([dark, light]), 0, 1), np.float32)


def texture(seed: int = 0, per_class: int = 120, size: int = 64) -> Samples:
    """Draw stationary textures of 12 materials, balanced, each with 60 physical samples.

    The images of a sample share its parameters, surface and colours, and differ in place,
    rotation, distance, light and noise. `groups` names the sample, such as "bricks/sample03". Image
    i of a class shows sample i modulo 60. There is no official split. More images per class leave
    the earlier ones unchanged, and the visible part of the material does not depend on the size.
    The images are (12 * per_class, size, size, 3) uint8 RGB.
    """
    check_options("texture", size, per_class)
    x, y = grid(_CANVAS)
    images, ids, groups = [], [], []
    for name, material in MATERIALS.items():
        samples = []
        for s in range(min(SAMPLES_PER_CLASS, per_class)):
            rng = generator(seed, "texture", name, s)
            samples.append((material(rng, x, y), _colours(rng)))
        for i in range(per_class):
            s = i % SAMPLES_PER_CLASS
            rng = generator(seed, "texture", name, s, "view", i)
            images.append(to_uint8(_view(rng, *samples[s], size)))
            groups.append(f"{name}/sample{s:02d}")
            ids.append(f"{groups[-1]}-{i:04d}")
    labels = np.repeat(np.arange(len(MATERIALS), dtype=np.int64), per_class)
    return Samples(np.stack(images), tuple(ids), labels, tuple(MATERIALS), tuple(groups))
