"""Finds the CT series below a folder: DICOM, NIfTI and 16-bit PNG, nested and mixed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from stagetransfer.ct import dicom, nifti, png_slices
from stagetransfer.ct.png_slices import PngScale
from stagetransfer.ct.problems import Problems, relative
from stagetransfer.ct.volume import Volume
from stagetransfer.errors import UserError


@dataclass(frozen=True)
class Found:
    """The series below the input.

    Attributes:
        volumes: in the order of their first file.
        others: files that are no image by suffix and first bytes (texts, tables), unread.
    """

    volumes: tuple[Volume, ...]
    others: tuple[str, ...]


def find_volumes(
    root: Path,
    problems: Problems,
    *,
    by_folder: bool = False,
    scale: PngScale | None = None,
    leave: Collection[Path] = (),
) -> Found:
    """Every CT series in a folder and all below it, or in one file; pixels are decoded later.

    Args:
        root: the folder or file.
        problems: takes what can't be used, a line each.
        by_folder: DICOM patients are told apart by the first folder below `root`, not by their
            PatientID; NIfTI and PNG always are (or by the file's name directly below it).
        scale: the meaning of PNG values, needed if there are PNGs.
        leave: files and folders that are not input, as the annotations.

    Raises:
        UserError: no such folder, nothing in it, or PNGs without a scale.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; give the folder that holds the series")
    slices: list[dicom.Slice] = []
    volumes: list[Volume] = []
    pictures: list[Path] = []
    others: list[str] = []
    damaged: set[str] = set()
    before = len(problems.lines)
    for path in list_files(root, {one.resolve() for one in leave}):
        if nifti.is_nifti(path):
            volume = nifti.read_volume(path, root, problems)
            volumes += [] if volume is None else [volume]
        elif path.suffix.lower() == ".png":
            pictures.append(path)
        elif dicom.is_dicom(path):
            known = problems.counts["unreadable files"]
            one = dicom.read_header(path, root, problems)
            slices += [] if one is None else [one]
            if problems.counts["unreadable files"] > known:
                damaged.add(os.path.dirname(relative(path, root)) or ".")
        else:
            others.append(relative(path, root))
    if pictures:
        if scale is None:
            raise UserError(
                f"{pictures[0]}: a PNG does not say its Hounsfield units; give --png-rescale "
                "SLOPE/INTERCEPT, as 1/-1024"
            )
        volumes += png_slices.read_volumes(pictures, root, scale, problems)
    # These formats name no patient.
    named = [
        dataclasses.replace(one, patient=dicom.folder_patient(one.files[0])) for one in volumes
    ]
    named += dicom.build_volumes(slices, by_folder, damaged, problems)
    if not named and len(problems.lines) == before:
        raise UserError(f"{root}: holds no DICOM, NIfTI or PNG file of a CT series")
    return Found(tuple(sorted(named, key=lambda one: one.files[0])), tuple(others))


def list_files(root: Path, leave: Collection[Path]) -> list[Path]:
    """All files, without the system's hidden ones, in an order that is the same everywhere."""
    if root.is_file():
        return [root]
    found: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=_refuse):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() not in leave
        ]
        found += [
            here / name
            for name in names
            if not name.startswith(".") and (here / name).resolve() not in leave
        ]
    return sorted(found, key=lambda path: relative(path, root))


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); look at its rights")
