"""Slices stored as 16-bit grey PNG, one folder per series."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct.input_problems import Problems, relative_name
from stagetransfer.ct.volume import Volume
from stagetransfer.errors import first_line
from stagetransfer.files import open_image
from stagetransfer.formats.unusable import Floats, Unreadable

_MODES_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_MODES_OF_MASKS = ("1", "L", "P", "I", "I;16", "I;16B")
DAMAGED = (OSError, SyntaxError, ValueError)
"""What Pillow raises for a damaged PNG."""


@dataclass(frozen=True)
class PngScale:
    """The meaning of PNG values, which the files do not contain: HU = value x slope + intercept.

    `spacing` is the side of a pixel in mm, None if unknown.
    """

    slope: float
    intercept: float
    spacing: float | None = None


def is_preview(path: Path) -> bool:
    """Whether a file is an image of 8 bits, which cannot hold Hounsfield units."""
    with suppress(*DAMAGED), open_image(path) as image:
        return image.mode not in _MODES_16_BIT
    return False


def is_slice(path: Path) -> bool:
    """Whether a file is a grey PNG of 16 bits."""
    with suppress(*DAMAGED), open_image(path) as image:
        return image.format == "PNG" and image.mode in _MODES_16_BIT
    return False


def read_values(path: Path, *, is_mask: bool = False) -> NDArray[np.int64]:
    """Return the values (H, W) of a 16-bit grey PNG or a mask, or raise Unreadable."""
    modes, kind = (_MODES_OF_MASKS, "of indices") if is_mask else (_MODES_16_BIT, "16-bit grey")
    try:
        with open_image(path) as image:
            if image.mode not in modes:
                raise Unreadable(f"an image of mode {image.mode}, not {kind}")
            return np.asarray(image).astype(np.int64)
    except DAMAGED as error:
        raise Unreadable(f"not readable as PNG ({first_line(error)})") from error


def read_volumes(
    paths: Sequence[Path], root: Path, scale: PngScale, problems: Problems
) -> list[Volume]:
    """Return one series per folder. Slices are sorted by file name, with numbers by value."""
    folders: defaultdict[Path, dict[Path, tuple[int, ...]]] = defaultdict(dict)
    damaged = set()
    for path in paths:
        try:
            folders[path.parent][path] = read_values(path).shape
        except Unreadable as error:
            problems.add("unreadable files", relative_name(path, root), str(error))
            damaged.add(path.parent)
    volumes = []
    for folder, shapes in folders.items():
        if len(set(shapes.values())) > 1:
            where = relative_name(next(iter(shapes)), root)
            problems.add("series of mixed grids", where, "slices of different sizes in one folder")
        else:
            ordered = sorted(shapes, key=_natural_order)
            height, width = shapes[ordered[0]]
            volumes.append(_volume(ordered, root, (height, width), scale, folder not in damaged))
    return volumes


def _volume(
    paths: Sequence[Path], root: Path, shape: tuple[int, int], scale: PngScale, complete: bool
) -> Volume:
    files = tuple(relative_name(path, root) for path in paths)
    folder = str(PurePosixPath(files[0]).parent)

    def read_slice(index: int) -> Floats:
        return read_values(paths[index]).astype(np.float64) * scale.slope + scale.intercept

    return Volume(
        where=f"series of {files[0]} ({len(files)} files)",
        patient="",
        identity=folder,
        names=frozenset([folder]) - {"."},
        files=files,
        shape=shape,
        spacing=None if scale.spacing is None else (scale.spacing, scale.spacing),
        geometry=None,
        read_slice=read_slice,
        complete=complete,
    )


def _natural_order(path: Path) -> list[tuple[bool, int, str]]:
    """Sort a2 before a10."""
    # Not `isdigit`, which is true of ² too.
    parts = "".join(c if c.isdecimal() else f" {c} " for c in path.name).split()
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
