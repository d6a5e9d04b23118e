"""The embedded target domain: a phantom of 7 HRCT lung patterns, by patient, in Hounsfield units.

Patients, numbers of images and the scanner are here; the patterns are in `lung_patterns`.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples
from stagetransfer.synthetic.fields import (
    Field,
    Rng,
    band_noise,
    check_options,
    generator,
    grid,
    to_uint8,
)
from stagetransfer.synthetic.lung_patterns import PATTERNS, Lung

CLASSES = ("CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR")
WINDOW = (-600.0, 1500.0)  # level and width in HU that become 0 to 255
FIELD = 18.0  # usual width of a patch in mm

# Suzuki et al. 2018 (slides): images and patients of each class.
_PAPER_IMAGES = {
    "train": (143, 609, 282, 210, 4406, 762, 5371),
    "test": (26, 46, 73, 66, 296, 65, 355),
}
_PATIENTS = {"train": (13, 14, 10, 8, 10, 9, 11), "test": (14, 14, 9, 9, 11, 10, 11)}
# Images are _FACTOR n^0.45 for the paper's n: fewer, and with class sizes closer together.
_FACTOR = {"train": 5, "test": 8}
# Neighbours in this list are findings that occur together; each shares patients with the next.
_COMPANIONS = ("CON", "GGO", "RET", "HCM", "EMP", "NOR", "NOD")
_SHARED = 3

OVERSAMPLING = 2
_MARGIN = 4  # oversampled pixels at each border, removed after blurring


@dataclass(frozen=True)
class Patient:
    """The properties that all patches of one patient share."""

    view: float  # side of a patch, mm
    blur: float  # standard deviation of the reconstruction kernel, mm
    overshoot: float  # weight of the unsharp mask of a sharp kernel
    noise: float  # standard deviation, HU
    speckle: float  # period of the noise, pixels
    parenchyma: float  # HU, depends on the depth of inspiration
    gain: float
    offset: float  # HU


def draw_patient(seed: int, number: int) -> Patient:
    """Return patient `number`, 1 to 117; those from 58 on are in "test"."""
    rng = generator(seed, "lung", "patient", number)
    sharp = rng.uniform(0, 1)  # 0: soft kernel, which blurs; 1: sharp, which overshoots, noisy
    return Patient(
        view=rng.uniform(16, 20),
        blur=0.55 - 0.25 * sharp,
        overshoot=0.8 * sharp,
        noise=rng.uniform(40, 70) + 50 * sharp,
        speckle=3.2 - 0.8 * sharp,
        parenchyma=-850 + float(np.clip(rng.normal(0, 55), -50, 130)),
        gain=rng.uniform(0.94, 1.06),
        offset=rng.normal(0, 25),
    )


def _roster(split: str) -> dict[str, tuple[int, ...]]:
    """Return the patients of each class, among 57 in train (1-57) or 60 in test (58-117)."""
    patients = dict(zip(CLASSES, _PATIENTS[split], strict=True))
    first = 1 if split == "train" else 58
    roster = {}
    for name in _COMPANIONS:
        roster[name] = tuple(range(first, first + patients[name]))
        first += patients[name] - _SHARED
    return roster


def _assign_patients(rng: Rng, patients: tuple[int, ...], count: int) -> list[int]:
    """Return the patient of each image: one image for each patient, the rest unevenly.

    A larger `count`, which is at least the number of patients, only appends to the list.
    """
    share = rng.gamma(3, size=len(patients))
    rest = rng.choice(patients, size=count - len(patients), p=share / share.sum())
    return [*patients, *map(int, rest)]


def _patch(rng: Rng, name: str, patient: Patient, size: int) -> Field:
    """Return a patch (size, size) in [0, 1], drawn in HU at twice the resolution, then scanned."""
    n = OVERSAMPLING * size + 2 * _MARGIN
    mm = patient.view / (OVERSAMPLING * size)
    tissue = PATTERNS[name](Lung(rng, *grid(n, mm), mm, patient.parenchyma))
    hounsfield = scan(rng, tissue, patient, mm, _MARGIN)
    level, width = WINDOW
    return np.asarray((hounsfield - level) / width + 0.5, np.float32)


def scan(rng: Rng, tissue: Field, patient: Patient, mm: float, margin: int) -> Field:
    """Simulate the patient's scanner: tissue (n, n) to (m, m) HU, m = (n - 2 margin) / 2.

    Tissue is in HU at `OVERSAMPLING` times the resolution, with pixels `mm` wide. At each border,
    `margin` of them are removed, where blurring is wrong.
    """
    n = len(tissue)
    size = (n - 2 * margin) // OVERSAMPLING
    scanned = ndimage.gaussian_filter(tissue, patient.blur / mm)
    soft = ndimage.gaussian_filter(scanned, 2 * patient.blur / mm)
    scanned = scanned + patient.overshoot * (scanned - soft)
    inner = scanned[margin : n - margin, margin : n - margin]
    pixels = inner.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(1, 3))
    pixels = pixels + patient.noise * band_noise(rng, size, patient.speckle, 0.5)
    # The gain acts on the difference from air (-1000 HU).
    return np.asarray(patient.gain * (pixels + 1000) - 1000 + patient.offset)


def lung(seed: int = 0, scale: float = 1.0, size: int = 32) -> Samples:
    """Draw patches of 7 lung patterns in unequal numbers, with patients as groups, and splits.

    There are 117 patients, p001 to p057 in "train" and p058 to p117 in "test", some with two
    patterns, and no "validation". At scale 1, train has 811 images and test 456. The images are
    (N, size, size) uint8 grey, 16 to 20 mm wide, with 0 to 255 for the window -1350 to 150 HU.

    `scale` multiplies the number of images of every class; every patient keeps at least one. A
    larger scale contains the images of a smaller one.
    """
    if not 0 < scale <= 1000:
        raise UserError(f"embedded lung: scale is {scale}, give a number above 0, at most 1000")
    check_options("lung", size)
    rows = []
    for split in ("train", "test"):
        roster = _roster(split)
        for label, (name, of_paper) in enumerate(zip(CLASSES, _PAPER_IMAGES[split], strict=True)):
            rng = generator(seed, "lung", "deal", split, name)
            count = max(len(roster[name]), round(scale * _FACTOR[split] * of_paper**0.45))
            patients = _assign_patients(rng, roster[name], count)
            drawn = Counter[int]()
            for i, number in enumerate(patients):
                rng = generator(seed, "lung", name, number, drawn[number])
                drawn[number] += 1
                image = to_uint8(_patch(rng, name, draw_patient(seed, number), size))
                group = f"p{number:03d}"
                rows.append((image, f"{split}/{name}/{group}-{i:04d}", label, group, split))
    images, ids, labels, groups, splits = zip(*rows, strict=True)
    return Samples(np.stack(images), ids, np.array(labels, np.int64), CLASSES, groups, splits)
