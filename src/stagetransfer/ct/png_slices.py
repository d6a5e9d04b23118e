"""Slices kept as 16-bit grey PNG, a folder a series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stagetransfer.ct.problems import Problems, reason, relative
from stagetransfer.ct.volume import Floats, UnreadableSlice, Volume

_BITS_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@dataclass(frozen=True)
class PngScale:
    """What a PNG can't say of itself.

    Attributes:
        slope, intercept: Hounsfield units = value x slope + intercept.
        spacing: side of a pixel in mm; None if unknown.
    """

    slope: float
    intercept: float
    spacing: float | None = None


def read_values(path: Path) -> NDArray[np.int64]:
    """(H, W) stored values of a 16-bit grey PNG.

    Raises:
        ValueError: not one, or damaged; the message says so without the file's name.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in _BITS_16:
                raise ValueError(f"a picture of mode {image.mode}, not 16-bit grey")
            return np.asarray(image).astype(np.int64)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not readable as PNG ({reason(error)})") from error


def read_volumes(
    paths: Sequence[Path], root: Path, scale: PngScale, problems: Problems
) -> list[Volume]:
    """A series of each folder; its slices stand in the order of their names, numbers as numbers."""
    folders: defaultdict[Path, list[tuple[Path, tuple[int, ...]]]] = defaultdict(list)
    damaged = set()
    for path in paths:
        try:
            shape = read_values(path).shape
        except ValueError as error:
            problems.add("unreadable files", relative(path, root), str(error))
            damaged.add(path.parent)
            continue
        folders[path.parent].append((path, shape))
    volumes = []
    for folder, found in folders.items():
        shapes = {shape for _, shape in found}
        if len(shapes) > 1:
            where = relative(found[0][0], root)
            text = "slices of different sizes in this folder"
            problems.add("series of mixed grids", where, text)
            continue
        ordered = sorted((path for path, _ in found), key=_by_number)
        height, width = shapes.pop()
        whole = folder not in damaged
        volumes.append(_volume(ordered, root, (height, width), scale, whole))
    return volumes


def _volume(
    paths: Sequence[Path], root: Path, shape: tuple[int, int], scale: PngScale, whole: bool
) -> Volume:
    files = tuple(relative(path, root) for path in paths)
    folder = str(PurePosixPath(files[0]).parent)

    def read(index: int) -> Floats:
        try:
            return read_values(paths[index]).astype(np.float64) * scale.slope + scale.intercept
        except ValueError as error:
            raise UnreadableSlice(str(error)) from error

    return Volume(
        where=f"series of {files[0]} ({len(files)} files)",
        patient="",
        identity=folder,
        names=frozenset([folder]) - {"."},
        files=files,
        instances=(None,) * len(files),
        sops=("",) * len(files),
        shape=shape,
        spacing=None if scale.spacing is None else (scale.spacing, scale.spacing),
        geometry=None,
        whole=whole,
        read=read,
    )


def _by_number(path: Path) -> list[tuple[bool, int, str]]:
    """a2 before a10."""
    parts = "".join(c if c.isdigit() else f" {c} " for c in path.name).split()
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
