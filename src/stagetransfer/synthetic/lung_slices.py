"""Whole slices of the embedded phantom, with the seven patterns in known regions.

A slice shows a body on a table, with two lungs, a spine and a trachea. Each lung consists of
lobules 12 to 15 mm wide (Voronoi cells of a jittered hexagonal grid). Each lobule is one patch of
its class, drawn by the same pattern and for the same patient as the patches of the target domain.
Neighbouring lobules of one class are a region: four regions in one lung, three in the other. New
to a network that was trained on patches are therefore only seams, borders between classes, and the
chest wall.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from stagetransfer.synthetic.fields import (
    Field,
    Rng,
    band_noise,
    generator,
    grid,
    jittered_points,
    radius,
    step,
)
from stagetransfer.synthetic.lung import CLASSES, OVERSAMPLING, draw_patient, scan
from stagetransfer.synthetic.lung_patterns import AIR, PATTERNS, Lung

FIRST_TEST_PATIENT, LAST_TEST_PATIENT = 58, 117

_PATCH = 32  # pixels across a patient's patch
_TILE = OVERSAMPLING * _PATCH + 8  # a lobule's patch with its margin, oversampled pixels
_LOBULE = 0.75  # width of a lobule, as a share of the patch
_SEAM = 1.5  # mm over which neighbouring lobules blend


@dataclass(frozen=True)
class Slice:
    """One slice."""

    hu: NDArray[np.int16]  # (H, W), Hounsfield units
    truth: NDArray[np.int8]  # (H, W), class numbers in `CLASSES`; -1 outside the lungs
    spacing: float  # side of a pixel in mm; 32 pixels are as wide as the patient's patches
    patient: str  # of the test set, such as "p058"


def patients_of_test(count: int) -> list[int]:
    """Return the numbers of `count` patients, evenly spaced over the 60 of the test set."""
    spaced = np.linspace(FIRST_TEST_PATIENT, LAST_TEST_PATIENT, count)
    return [round(number) for number in spaced.tolist()]


def lung_slice(seed: int, number: int, index: int = 0, size: int = 512) -> Slice:
    """Draw a slice of patient `number` of the phantom; its pixels are 0.5 to 0.63 mm wide."""
    patient = draw_patient(seed, number)
    rng = generator(seed, "lung", "slice", number, index)
    spacing = patient.view / _PATCH
    mm = spacing / OVERSAMPLING
    n = OVERSAMPLING * size
    x, y = grid(n, mm)
    field = float(n * mm)
    u, v = (a + np.float32(0.012 * field) * band_noise(rng, n, n / 4) for a in (x, y))
    lungs = np.minimum(*(_oval(u, v, field, side * 0.2, 0, 0.155, 0.25) for side in (-1, 1)))
    tissue = _body(rng, x, y, mm, field)
    inside = lungs < mm
    pixels = np.stack([x[inside], y[inside]], axis=1)
    lobules, classes = _lobules(rng, patient.view, field)
    lung = Lung(rng, *grid(_TILE, mm), mm, patient.parenchyma)
    tiles = np.stack([PATTERNS[CLASSES[label]](lung) for label in classes])
    # The noise bends the borders.
    warp = np.stack([band_noise(rng, n, 8 / mm)[inside] for _ in range(2)], axis=1)
    found = KDTree(lobules).query(pixels + warp, k=2)
    far, near = np.asarray(found[0]), np.asarray(found[1], np.intp)
    own, other = (_draw(tiles, lobules, near[:, k], pixels, mm) for k in (0, 1))
    blend = 0.5 * np.clip(1 - (far[:, 1] - far[:, 0]) / _SEAM, 0, 1)
    edge = step(-lungs, 2 * mm)[inside]
    tissue[inside] += edge * (own + blend * (other - own) - tissue[inside])
    truth = np.full((n, n), -1, np.int8)
    truth[inside] = np.where(edge > 0.5, classes[near[:, 0]], -1)
    hounsfield = scan(rng, tissue, patient, mm, 0)
    hu = np.rint(np.clip(hounsfield, -1024, 3071)).astype(np.int16)
    return Slice(hu, truth[1::OVERSAMPLING, 1::OVERSAMPLING], spacing, f"p{number:03d}")


def _oval(x: Field, y: Field, field: float, cx: float, cy: float, a: float, b: float) -> Field:
    """Return roughly the distance in mm to an ellipse, negative inside; as shares of `field`."""
    u, v = x - np.float32(cx * field), y - np.float32(cy * field)
    rise = radius(u / np.float32(a * field), v / np.float32(b * field))
    return np.asarray((rise - 1) * np.float32(min(a, b) * field), np.float32)


def _body(rng: Rng, x: Field, y: Field, mm: float, field: float) -> Field:
    """Draw everything except the lungs in HU: air, table, fat, muscle, spine and trachea."""
    muscle = 45 + 12 * band_noise(rng, len(x), 3 / mm, 0.8)
    tissue = np.full_like(x, -1000)
    table = np.abs(y - np.float32(0.4 * field)) - np.float32(2)
    densities: tuple[tuple[Field, Field | float], ...] = (
        (table, -200.0),
        (_oval(x, y, field, 0, 0, 0.46, 0.37), -100.0),
        (_oval(x, y, field, 0, 0, 0.435, 0.345), muscle),
        (_oval(x, y, field, 0, 0.26, 0.05, 0.05), 350.0),
        (_oval(x, y, field, 0, -0.12, 0.024, 0.024), AIR),
    )
    for distance, density in densities:
        tissue = np.asarray(tissue + step(-distance, 2 * mm) * (density - tissue), np.float32)
    return tissue


def _lobules(rng: Rng, view: float, field: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (L, 2) centres x, y of the lobules in mm, and the class number (L,) of each.

    A lobule belongs to the nearest region of its lung; the regions are one below the other.
    """
    points = jittered_points(rng, 0.75 * field, _LOBULE * view, 0.12).astype(np.float64)
    order = rng.permutation(len(CLASSES))
    first = int(rng.integers(3, 5))
    middles, classes = [], []
    for side, of_side in ((-1, order[:first]), (1, order[first:])):
        count = len(of_side)
        # Equal areas: the ends of an ellipse have less area than its middle.
        heights = np.sin(np.linspace(-1, 1, 2 * count + 1)[1::2] * np.pi / 2.6)
        middles += [
            (side * 0.2 * field + rng.uniform(-12, 12), 0.25 * field * h + rng.uniform(-4, 4))
            for h in heights
        ]
        classes += of_side.tolist()
    region = np.array(middles)
    distance = np.hypot(*(points[:, None] - region[None]).transpose(2, 0, 1))
    distance[np.sign(points[:, None, 0]) != np.sign(region[None, :, 0])] = np.inf
    return points, np.array(classes)[distance.argmin(1)]


def _draw(
    tiles: Field, lobules: NDArray[np.float64], which: NDArray[np.intp], pixels: Field, mm: float
) -> Field:
    """Return the values of pixels (P, 2), in mm, in the tiles of the lobules `which` (P,)."""
    places = np.rint((pixels - lobules[which]) / mm).astype(np.int64) + _TILE // 2
    column, row = np.clip(places, 0, _TILE - 1).T
    return np.asarray(tiles[which, row, column])
