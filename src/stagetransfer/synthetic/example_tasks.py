"""Tiny example sets in the layouts of the four tasks of Tajbakhsh et al. 2016 (IEEE TMI 35(5)).

Polyps and the carotid wall have one folder per class, with the video in the file's name. Frame
quality and pulmonary embolism have a table. Images of one video or patient share a brightness.
The drawings are caricatures, not simulations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from stagetransfer.errors import UserError
from stagetransfer.files import atomic_folder, check_is_new

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]  # (SIDE, SIDE) grey or (SIDE, SIDE, 3) colour
Drawing = Callable[[np.random.Generator], Pixels]

SIDE = 32
VIDEOS, TEST_VIDEOS = 16, 5  # or patients; the last ones are the test set
PER_VIDEO = 4  # images of each class per video

_Y, _X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
_IMAGES = [*product(range(VIDEOS), range(PER_VIDEO))]  # video and number of those of one class


@dataclass(frozen=True)
class Task:
    """A task: what it is, how to train on it, and how its set is made."""

    about: str  # in one line
    overrides: tuple[str, ...]  # those of train.py, with {root} in place of the folder
    write: Callable[[Path], None]  # writes the set into a folder


def write_example(name: str, folder: Path) -> None:
    """Write the set of a task, always with the same content, into a new folder."""
    if name not in TASKS:
        raise UserError(f"{name}: no such example; there are {', '.join(TASKS)}")
    check_is_new(folder)
    with atomic_folder(folder) as part:
        TASKS[name].write(part)


def _polyp(root: Path) -> None:
    for name, draw in (("background", mucosa), ("polyp", polyp)):
        for video, number in _IMAGES:
            _save(draw, root / name / f"v{video:02}_{number}.png", video)


def _boundary(root: Path) -> None:
    for draw in (tissue, lumen_intima, media_adventitia):
        for video, number in _IMAGES:
            folder = root / _split(video) / draw.__name__
            _save(draw, folder / f"v{video:02}_{number}.png", video)


def _frames(root: Path) -> None:
    rows = []
    for name, draw in (("informative", sharp_frame), ("poor", blurred_frame)):
        for video, number in _IMAGES:
            file = f"frames/v{video:02}_{name}_{number}.png"
            _save(draw, root / file, video)
            rows.append((file, name, f"v{video:02}"))
    _table(root / "labels.csv", ("file", "label", "patient"), rows)


def _embolism(root: Path) -> None:
    """Write the candidates, their table and the table of lesions.

    A patient has two emboli, each with two candidates. Every eighth patient has none, and the last
    patient of the test set has one more embolus, which no candidate hits.
    """
    rows, lesions = [], []
    for patient in range(VIDEOS):
        case, split = f"p{patient:02}", _split(patient)
        emboli = [] if patient % 8 == 3 else ["E1", "E2"]
        missed = ["E3"] if patient == VIDEOS - 1 else []
        lesions += [(case, lesion, split) for lesion in [*emboli, *missed] or [""]]
        for number, lesion in enumerate([*emboli * 2, *[""] * PER_VIDEO]):
            file = f"candidates/{case}_{number}.png"
            _save(embolus if lesion else vessel, root / file, patient)
            rows.append((file, "embolus" if lesion else "other", case, split, lesion))
    _table(root / "labels.csv", ("file", "label", "patient", "split", "lesion"), rows)
    _table(root / "lesions.csv", ("case", "lesion", "split"), lesions)


_ROOT = "domain.target.root={root}"
_FOLDERS = ("domain/target=folder", _ROOT, r"+domain.target.options.groups='(v\d+)_'")
_CSV = ("domain/target=csv", _ROOT)

TASKS = {
    "polyp": Task(
        "two classes of patches, one folder per class, with the video in the file's name",
        _FOLDERS,
        _polyp,
    ),
    "frames": Task("good and poor frames in a table, with the video", _CSV, _frames),
    "embolism": Task(
        "candidates in a table with patient, lesion and split, and a table of the lesions",
        (*_CSV, "+domain.target.options.classes=[other,embolus]"),
        _embolism,
    ),
    "boundary": Task(
        "three classes of strips, one folder per class below train/ and test/", _FOLDERS, _boundary
    ),
}


def _split(video: int) -> str:
    return "test" if video >= VIDEOS - TEST_VIDEOS else "train"


def _save(draw: Drawing, file: Path, video: int) -> None:
    random = np.random.default_rng(list(f"{video} {file.parent.name} {file.name}".encode()))
    tint = np.random.default_rng(video).uniform(0.8, 1.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((draw(random) * tint).astype(np.uint8)).save(file)


def _table(file: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    pd.DataFrame(rows, columns=pd.Index(columns)).to_csv(file, index=False)


def mucosa(random: np.random.Generator) -> Pixels:
    """Draw a wall with a fold, in colour."""
    fold = np.exp(-((_across(random) / 2.5) ** 2))
    return _coloured(0.55 + 0.1 * _clouds(random, 4) - 0.3 * fold)


def polyp(random: np.random.Generator) -> Pixels:
    """Draw a round bulge, lit from one side, with a highlight, in colour."""
    y, x = random.uniform(-4, 4, 2)
    radius = random.uniform(7, 11)
    inside = np.clip(1 - ((_X - x) ** 2 + (_Y - y) ** 2) / radius**2, 0, 1)
    light = np.exp(-((_X - x + radius / 3) ** 2 + (_Y - y + radius / 3) ** 2) / 5)
    return _coloured(0.45 + 0.1 * _clouds(random, 4) + 0.35 * np.sqrt(inside) + 0.3 * light)


def sharp_frame(random: np.random.Generator) -> Pixels:
    """Draw folds and vessels in focus, in colour."""
    vessels = sum(np.exp(-(_across(random) ** 2)) for _ in range(4))
    return _coloured(0.6 + 0.1 * _clouds(random, 3) - 0.25 * vessels)


def blurred_frame(random: np.random.Generator) -> Pixels:
    """Draw folds and vessels out of focus, in colour."""
    return np.asarray(gaussian_filter(sharp_frame(random), (5, 5, 0)), np.uint8)


def vessel(random: np.random.Generator) -> Pixels:
    """Draw a vessel in lung, filled with contrast agent, in grey."""
    return _grey(_vessel(random), random)


def embolus(random: np.random.Generator) -> Pixels:
    """Draw a vessel with a dark filling defect, in grey."""
    y, x = random.uniform(-2, 2, 2)
    defect = np.exp(-(((_X - x) ** 2 + (_Y - y) ** 2) / 12))
    return _grey(_vessel(random) - 0.55 * defect, random)


def tissue(random: np.random.Generator) -> Pixels:
    """Draw speckle without a boundary at the centre, in grey."""
    return _grey(np.full((SIDE, SIDE), random.uniform(0.2, 0.6)), random)


def lumen_intima(random: np.random.Generator) -> Pixels:
    """Draw a dark lumen above, a thin bright line at the centre and grey media below, in grey."""
    depth = _Y + random.uniform(-0.1, 0.1) * _X
    return _grey(0.1 + 0.3 * (depth > 0) + 0.4 * np.exp(-(depth**2)), random)


def media_adventitia(random: np.random.Generator) -> Pixels:
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


def _coloured(light: Array) -> Pixels:
    return _uint8(light[..., None] * np.array([1.0, 0.6, 0.5]))


def _grey(light: Array, random: np.random.Generator) -> Pixels:
    return _uint8(gaussian_filter(light, 0.7) + 0.06 * random.normal(size=light.shape))


def _uint8(light: Array) -> Pixels:
    return np.asarray(np.clip(255 * light, 0, 255), np.uint8)
