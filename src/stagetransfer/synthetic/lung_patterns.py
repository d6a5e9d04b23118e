"""The seven lung patterns of the embedded target, each a map of Hounsfield units.

Lengths are in mm. Every pattern starts from the same aerated lung and has vessels. Densities
follow Hansell et al. 2008 (Fleischner Society glossary); they are not fitted to scans.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stagetransfer.synthetic.fields import (
    Field,
    band_noise,
    jittered_points,
    radius,
    step,
    stroke,
    voronoi,
)

BLOOD = 40.0  # HU of vessels and other soft tissue
AIR = -985.0


@dataclass(frozen=True)
class Lung:
    """The place where a pattern is drawn."""

    rng: np.random.Generator  # draws the pattern
    x: Field  # (n, n), mm
    y: Field
    mm: float  # side of a pixel
    parenchyma: float  # HU of aerated lung

    @property
    def side(self) -> float:
        """Side of the square in mm."""
        return len(self.x) * self.mm

    def noise(self, period: float, width: float = 0.35) -> Field:
        """Return band noise (n, n) of this period in mm."""
        return band_noise(self.rng, len(self.x), period / self.mm, width)

    def place(self, spread: float = 0.5) -> tuple[float, float]:
        """Return a random point x, y, at most `spread` * side from the centre in x and in y."""
        x, y = self.rng.uniform(-spread, spread, 2) * self.side
        return float(x), float(y)

    def cover(self, distance: Field, softness: float = 0.0) -> Field:
        """Return 1 where `distance` (mm) is negative, else 0, with a border `softness` mm wide."""
        return step(-distance, max(softness, self.mm))

    def warped(self, amount: float, period: float) -> tuple[Field, Field]:
        """Return x and y displaced by band noise of this deviation and period in mm."""
        a, b = np.float32(amount) * self.noise(period), np.float32(amount) * self.noise(period)
        return self.x + a, self.y + b


def _blend(below: Field, cover: Field, density: Field | float) -> Field:
    return np.asarray(below + cover * (density - below), np.float32)


def _vessels(lung: Lung, tissue: Field, number: int) -> Field:
    """Add bent tubes that taper and fade, as they leave the slice, and cross-sections as dots."""
    rng = lung.rng
    for _ in range(number):
        a, angle = lung.place(), rng.uniform(0, 2 * np.pi)
        u = np.cos(angle) * (lung.x - a[0]) + np.sin(angle) * (lung.y - a[1])
        v = np.cos(angle) * (lung.y - a[1]) - np.sin(angle) * (lung.x - a[0])
        v = v - np.float32(rng.uniform(-0.02, 0.02)) * u * u
        length, thickness = rng.uniform(3, 14), rng.uniform(0.2, 0.65)
        taper = np.clip(1 - np.abs(u) / np.float32(length), 0, 1)
        tube = lung.cover(np.abs(v) - np.float32(thickness) * np.sqrt(taper))
        tissue = _blend(tissue, rng.uniform(0.5, 1) * tube, BLOOD)
    for _ in range(rng.poisson(0.5 * number)):
        cx, cy = lung.place()
        dot = lung.cover(radius(lung.x - cx, lung.y - cy) - np.float32(rng.uniform(0.3, 0.6)))
        tissue = _blend(tissue, dot, BLOOD)
    return tissue


def _aerated(lung: Lung) -> Field:
    """Draw parenchyma with a slow gradient (gravity) and small variations by lobule."""
    angle = lung.rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * lung.x + np.sin(angle) * lung.y) / lung.side
    uneven = lung.rng.uniform(6, 16) * lung.noise(lung.rng.uniform(1.5, 5), 0.8)
    slope = np.float32(lung.rng.uniform(0, 60))
    return np.asarray(lung.parenchyma + slope * ramp + uneven, np.float32)


def _region(lung: Lung, least: float, most: float, period: float = 14) -> Field:
    """Return a field that is positive on a random share (least to most) of the patch."""
    clouds = lung.noise(period, 0.6)
    share = lung.rng.uniform(least, most)
    return clouds - np.float32(np.quantile(clouds, 1 - share))


def _normal(lung: Lung) -> Field:
    """NOR: aerated lung with vessels."""
    return _vessels(lung, _aerated(lung), int(lung.rng.integers(1, 5)))


def _emphysema(lung: Lung) -> Field:
    """EMP: round holes of air without walls, 2.4 to 8 mm wide, separate or confluent."""
    rng, tissue = lung.rng, _aerated(lung)
    u, v = lung.warped(0.35, 4)
    spacing = rng.uniform(4, 8)
    points = jittered_points(rng, lung.side, spacing, 0.3)
    kept = rng.random(len(points)) < rng.uniform(0.35, 0.9)
    points = np.vstack([points[kept], lung.place(0.3)])  # every patch has at least one hole
    hole = np.full_like(u, np.inf)
    for px, py in points.astype(np.float32):
        r = np.float32(spacing * rng.uniform(0.3, 0.5))
        # (d^2 - r^2) / 2r is close to d - r at the rim, and needs no square root.
        hole = np.minimum(hole, ((u - px) ** 2 + (v - py) ** 2 - r * r) / (2 * r))
    tissue = _blend(tissue, lung.cover(hole, 0.7), AIR)
    return _vessels(lung, tissue, int(rng.integers(0, 3)))


def _ground_glass(lung: Lung) -> Field:
    """GGO: higher density on part of the patch, in which the vessels remain visible."""
    rng, tissue = lung.rng, _aerated(lung)
    haze = lung.parenchyma + rng.uniform(120, 280) + 22 * lung.noise(rng.uniform(2, 4), 0.6)
    region = _region(lung, 0.35, 0.9, rng.uniform(8, 16))
    tissue = _blend(tissue, step(region, rng.uniform(0.3, 0.9)), haze)
    return _vessels(lung, tissue, int(rng.integers(1, 5)))


def _consolidation(lung: Lung) -> Field:
    """CON: airless lung that hides the vessels, with air in branching bronchi."""
    rng, tissue = lung.rng, _vessels(lung, _aerated(lung), 2)
    solid = rng.uniform(-60, 40) + 12 * lung.noise(3, 0.8)
    u, v = lung.warped(0.4, 7)
    for _ in range(rng.integers(0, 3)):
        fork, angle = np.array(lung.place(0.3)), rng.uniform(0, 2 * np.pi)
        for turn, width in ((np.pi, 0.6), (rng.uniform(0.2, 0.7), 0.45), (-0.5, 0.4)):
            way = np.array([np.cos(angle + turn), np.sin(angle + turn)])
            branch = stroke(u, v, fork, fork + rng.uniform(4, 9) * way)
            solid = _blend(solid, lung.cover(branch - np.float32(width)), -850.0)
    region = _region(lung, 0.3, 1.0)
    return _blend(tissue, step(region, 0.25), solid)


def _honeycomb(lung: Lung) -> Field:
    """HCM: cysts 3 to 5.5 mm apart, side by side, with shared walls about 1 mm thick."""
    rng, tissue = lung.rng, _aerated(lung)
    u, v = lung.warped(0.25, 4)
    spacing = rng.uniform(3, 5.5)
    near, second, cell = voronoi(u, v, jittered_points(rng, lung.side, spacing, 0.28))
    wall = np.float32(rng.uniform(0.35, 0.6))
    # The minimum of the distances to border and circle rounds the corners of a cell.
    inside = np.minimum((second - near) / 2 - wall, np.float32(0.56 * spacing) - near)
    air = rng.uniform(-960, -860, cell.max() + 1).astype(np.float32)[cell]
    fibrosis = rng.uniform(-330, -120) + 40 * lung.noise(3, 0.8)
    cysts = _blend(np.asarray(fibrosis, np.float32), lung.cover(-inside), air)
    tissue = _blend(tissue, step(_region(lung, 0.7, 1.0), 0.2), cysts)
    return _vessels(lung, tissue, int(rng.integers(0, 2)))


def _reticular(lung: Lung) -> Field:
    """RET: a mesh of thin lines, broken in places, over lung of nearly normal or hazy density."""
    rng = lung.rng
    tissue = _aerated(lung) + np.float32(rng.uniform(0, 110))
    u, v = lung.warped(0.5, 5)
    spacing = rng.uniform(2.8, 4.6)
    near, second, _ = voronoi(u, v, jittered_points(rng, lung.side, spacing, 0.45))
    border = np.asarray((second - near) / 2, np.float32)
    line = lung.cover(border - np.float32(rng.uniform(0.14, 0.26)))
    kept = step(lung.noise(2 * spacing, 0.6) + np.float32(rng.uniform(0.5, 1.2)), 0.5)
    tissue = _blend(tissue, line * kept, rng.uniform(-300, -50))
    return _vessels(lung, tissue, int(rng.integers(0, 3)))


def _nodular(lung: Lung) -> Field:
    """NOD: 3 to 10 solid round nodules of 1.5 to 3.7 mm."""
    rng, tissue = lung.rng, _aerated(lung)
    softness, usual = rng.uniform(0.2, 0.8), rng.uniform(0.9, 1.6)
    for _ in range(rng.integers(3, 11)):
        cx, cy = lung.place(0.48)
        squeeze, r = rng.uniform(0.85, 1.18), usual * rng.uniform(0.85, 1.15)
        distance = radius((lung.x - cx) * squeeze, (lung.y - cy) / squeeze) - np.float32(r)
        tissue = _blend(tissue, lung.cover(distance, softness), rng.uniform(-250, 40))
    return _vessels(lung, tissue, int(rng.integers(0, 4)))


PATTERNS: dict[str, Callable[[Lung], Field]] = {
    "CON": _consolidation,
    "GGO": _ground_glass,
    "HCM": _honeycomb,
    "RET": _reticular,
    "EMP": _emphysema,
    "NOD": _nodular,
    "NOR": _normal,
}
