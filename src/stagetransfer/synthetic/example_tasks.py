"""Tiny example sets in the layouts of the four tasks of Tajbakhsh et al. 2016 (IEEE TMI 35(5)).

Polyps and the carotid wall have one folder per class, with the video in the file's name. Frame
quality and pulmonary embolism have a table. Images of one video or patient share a brightness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stagetransfer.errors import UserError
from stagetransfer.files import atomic_folder
from stagetransfer.synthetic import example_drawings as drawings
from stagetransfer.synthetic.example_drawings import Drawing

VIDEOS, TEST_VIDEOS = 16, 5  # or patients; the last ones are the test set
PER_VIDEO = 4  # images of each class per video


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        about: description in one line.
        overrides: those of train.py, with {root} in place of the folder.
        write: writes the set into a folder.
    """

    about: str
    overrides: tuple[str, ...]
    write: Callable[[Path], None]


def write_example(name: str, folder: Path) -> None:
    """Write the set of a task, always with the same content.

    Raises:
        UserError: there is no such task, or the folder exists.
    """
    if name not in TASKS:
        raise UserError(f"{name}: no such example; there are {', '.join(TASKS)}")
    if folder.exists():
        raise UserError(f"{folder}: exists already. Give a new folder.")
    with atomic_folder(folder) as part:
        TASKS[name].write(part)


def _polyp(root: Path) -> None:
    for name, draw in (("background", drawings.mucosa), ("polyp", drawings.polyp)):
        for video, number in _images():
            _save(draw, root / name / f"v{video:02}_{number}.png", video)


def _boundary(root: Path) -> None:
    for draw in (drawings.tissue, drawings.lumen_intima, drawings.media_adventitia):
        for video, number in _images():
            folder = root / _split(video) / draw.__name__
            _save(draw, folder / f"v{video:02}_{number}.png", video)


def _frames(root: Path) -> None:
    rows = []
    for name, draw in (("informative", drawings.sharp_frame), ("poor", drawings.blurred_frame)):
        for video, number in _images():
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
            _save(drawings.embolus if lesion else drawings.vessel, root / file, patient)
            rows.append((file, "embolus" if lesion else "other", case, split, lesion))
    _table(root / "labels.csv", ("file", "label", "patient", "split", "lesion"), rows)
    _table(root / "lesions.csv", ("case", "lesion", "split"), lesions)


TASKS = {
    "polyp": Task(
        "two classes of patches, one folder per class, with the video in the file's name",
        (
            "domain/target=folder",
            "domain.target.root={root}",
            r"+domain.target.options.groups='(v\d+)_'",
        ),
        _polyp,
    ),
    "frames": Task(
        "good and poor frames in a table, with the video",
        ("domain/target=csv", "domain.target.root={root}"),
        _frames,
    ),
    "embolism": Task(
        "candidates in a table with patient, lesion and split, and a table of the lesions",
        (
            "domain/target=csv",
            "domain.target.root={root}",
            "+domain.target.options.classes=[other,embolus]",
        ),
        _embolism,
    ),
    "boundary": Task(
        "three classes of strips, one folder per class below train/ and test/",
        (
            "domain/target=folder",
            "domain.target.root={root}",
            r"+domain.target.options.groups='(v\d+)_'",
        ),
        _boundary,
    ),
}


def _images() -> list[tuple[int, int]]:
    """Return video and number of the images of one class."""
    return [(video, number) for video in range(VIDEOS) for number in range(PER_VIDEO)]


def _split(video: int) -> str:
    return "test" if video >= VIDEOS - TEST_VIDEOS else "train"


def _save(draw: Drawing, file: Path, video: int) -> None:
    random = np.random.default_rng(list(f"{video} {file.parent.name} {file.name}".encode()))
    tint = np.random.default_rng(video).uniform(0.8, 1.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((draw(random) * tint).astype(np.uint8)).save(file)


def _table(file: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    pd.DataFrame(rows, columns=pd.Index(columns)).to_csv(file, index=False)
