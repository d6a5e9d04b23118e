"""The embedded target domain: a phantom of 7 HRCT lung patterns, by patient, in Hounsfield units.

The table of patients and images is here; what a pattern looks like is in `patterns`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.errors import UserError
from stagetransfer.synthetic.fields import (
    Field,
    band_noise,
    check_size,
    generator,
    grid,
    to_uint8,
)
from stagetransfer.synthetic.labelled_images import LabelledImages
from stagetransfer.synthetic.lung_patterns import PATTERNS, Lung

CLASSES = ("CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR")
WINDOW = (-600.0, 1500.0)  # level and width in HU that become 0 to 255

# Suzuki et al. 2018 (slides): images and patients of each class.
_PAPER_IMAGES = {
    "train": (143, 609, 282, 210, 4406, 762, 5371),
    "test": (26, 46, 73, 66, 296, 65, 355),
}
_PATIENTS = {"train": (13, 14, 10, 8, 10, 9, 11), "test": (14, 14, 9, 9, 11, 10, 11)}
# Neighbours in this row are findings that occur together; each shares patients with the next.
_COMPANIONS = ("CON", "GGO", "RET", "HCM", "EMP", "NOR", "NOD")
_SHARED = 3

OVERSAMPLING = 2
_MARGIN = 4  # oversampled pixels that blurring may spoil


@dataclass(frozen=True)
class Patient:
    """What all patches of one patient have in common."""

    view: float  # side of a patch, mm
    blur: float  # standard deviation of the reconstruction kernel, mm
    overshoot: float  # weight of the unsharp mask of a sharp kernel
    noise: float  # standard deviation, HU
    speckle: float  # period of the noise, pixels
    parenchyma: float  # HU, moved by the depth of inspiration
    gain: float
    offset: float  # HU


def draw_patient(seed: int, number: int) -> Patient:
    """Patient `number`, from 1 to 117; those from 58 on are in "test"."""
    rng = generator(seed, "lung", "patient", number)
    sharp = rng.uniform(0, 1)  # soft kernels blur, sharp ones overshoot and are noisy
    return Patient(
        view=rng.uniform(16, 20),
        blur=0.55 - 0.25 * sharp,
        overshoot=0.8 * sharp,
        noise=rng.uniform(18, 34) + 26 * sharp,
        speckle=3.2 - 0.8 * sharp,
        parenchyma=-850 + float(np.clip(rng.normal(0, 55), -50, 130)),
        gain=rng.uniform(0.94, 1.06),
        offset=rng.normal(0, 25),
    )


def _roster(split: str) -> dict[str, tuple[int, ...]]:
    """The patients' numbers of each class; together 57 in train (1-57) and 60 in test (58-117)."""
    patients = dict(zip(CLASSES, _PATIENTS[split], strict=True))
    first = 1
    if split == "test":
        first += sum(_PATIENTS["train"]) - _SHARED * (len(CLASSES) - 1)
    roster = {}
    for name in _COMPANIONS:
        roster[name] = tuple(range(first, first + patients[name]))
        first += patients[name] - _SHARED
    return roster


def _deal(rng: np.random.Generator, patients: tuple[int, ...], count: int) -> list[int]:
    """Whose each of `count` >= len(patients) images is: one for each patient, the rest unevenly.

    The first images of a longer deal are those of a shorter one.
    """
    share = rng.gamma(3, size=len(patients))
    rest = rng.choice(patients, size=count - len(patients), p=share / share.sum())
    return [*patients, *map(int, rest)]


def _patch(rng: np.random.Generator, name: str, patient: Patient, size: int) -> Field:
    """One ROI (size, size) in [0, 1]: drawn in HU at twice the resolution, then scanned."""
    n = OVERSAMPLING * size + 2 * _MARGIN
    mm = patient.view / (OVERSAMPLING * size)
    x, y = grid(n, mm)
    tissue = PATTERNS[name](Lung(rng, x, y, mm, patient.parenchyma))
    hounsfield = scan(rng, tissue, patient, mm, _MARGIN)
    level, width = WINDOW
    return np.asarray((hounsfield - level) / width + 0.5, np.float32)


def scan(
    rng: np.random.Generator, tissue: Field, patient: Patient, mm: float, margin: int
) -> Field:
    """What the patient's scanner makes of tissue (n, n): (m, m) HU, m = (n - 2 margin) / 2.

    Args:
        tissue: HU at `OVERSAMPLING` times the resolution, `mm` a pixel.
        margin: pixels at each border that blurring may spoil; they are cut off.
    """
    n = len(tissue)
    size = (n - 2 * margin) // OVERSAMPLING
    scanned = ndimage.gaussian_filter(tissue, patient.blur / mm)
    soft = ndimage.gaussian_filter(scanned, 2 * patient.blur / mm)
    scanned = scanned + patient.overshoot * (scanned - soft)
    inner = scanned[margin : n - margin, margin : n - margin]
    pixels = inner.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(1, 3))
    pixels = pixels + patient.noise * band_noise(rng, size, patient.speckle, 0.5)
    # Air stays air: a scanner's gain and offset are errors about -1000 HU.
    return np.asarray(patient.gain * (pixels + 1000) - 1000 + patient.offset)


def _counts(split: str, scale: float) -> list[int]:
    """Images a class: scale * 8 * n ** 0.45 of the paper's n, and at least one a patient."""
    return [
        max(patients, round(scale * 8 * n**0.45))
        for n, patients in zip(_PAPER_IMAGES[split], _PATIENTS[split], strict=True)
    ]


def lung(seed: int = 0, scale: float = 1.0, size: int = 32) -> LabelledImages:
    """Patches of 7 lung patterns, out of balance, with `groups` (patients) and `splits`.

    117 patients, p001 to p057 in "train" and p058 to p117 in "test", some with two patterns; there
    is no "validation". At scale 1 train has 1,297 images and test 456.

    Args:
        seed: another seed gives other patients.
        scale: multiplies the number of images of every class; no patient is ever left without one.
            A larger scale leaves the images of a smaller one as they were.
        size: side in pixels; the field of view stays 16 to 20 mm.

    Returns:
        Images (N, size, size) uint8 grey, the window -1350 to 150 HU as 0 to 255.

    Raises:
        UserError: scale not above 0 or size below 16.
    """
    if not 0 < scale < np.inf:
        raise UserError(f"embedded lung: scale is {scale}, give a number above 0")
    check_size("lung", size)
    images: list[NDArray[np.uint8]] = []
    ids, labels, groups, splits = [], [], [], []
    for split in ("train", "test"):
        roster = _roster(split)
        for label, (name, count) in enumerate(zip(CLASSES, _counts(split, scale), strict=True)):
            dealt = _deal(generator(seed, "lung", "deal", split, name), roster[name], count)
            drawn = Counter[int]()
            for i, number in enumerate(dealt):
                rng = generator(seed, "lung", name, number, drawn[number])
                drawn[number] += 1
                images.append(to_uint8(_patch(rng, name, draw_patient(seed, number), size)))
                ids.append(f"{split}/{name}/p{number:03d}-{i:04d}")
                labels.append(label)
                groups.append(f"p{number:03d}")
                splits.append(split)
    return LabelledImages(
        images=np.stack(images),
        ids=tuple(ids),
        labels=np.array(labels, np.int64),
        classes=CLASSES,
        groups=tuple(groups),
        splits=tuple(splits),
    )
