"""What annotations say of a slice: a label at a point, within an outline, or on a mask.

Coordinates are pixels of the stored slice: x the column, y the row, whole numbers at the centres
of pixels, (0, 0) the first. A pixel reaches half a unit to each side.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct.volume import Floats
from stagetransfer.errors import UserError


@dataclass(frozen=True)
class Point:
    """The middle of one patch."""

    x: float
    y: float


@dataclass(frozen=True)
class Outline:
    """A closed polygon (a box has four vertices), (N, 2) as x, y."""

    vertices: Floats


@dataclass(frozen=True)
class Cover:
    """A mask, cut to its bounding box: (h, w) from row `top` and column `left` of the slice."""

    top: int
    left: int
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Region:
    """One label on one slice.

    Attributes:
        index: the slice's number in its series, from 0.
        where: row or file of the annotation, for messages.
        split: "train", "validation" or "test" where the annotations fix it.
    """

    index: int
    label: str
    shape: Point | Outline | Cover
    where: str
    split: str | None = None


class Annotations(Protocol):
    """The annotations of all series of an input."""

    def of(self, volume: int) -> Iterable[Region]:
        """The regions of a series, by its number in the list of series."""


class Labels:
    """Names for the values of masks, new names for labels: the table behind --labels.

    Args:
        names: name of each value; an empty name leaves the value out; None keeps all as they are.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self.names = names

    def __call__(self, *values: str) -> str | None:
        """The name of the first value that has one; "" to leave it out; None if there is none."""
        if self.names is None:
            return values[0]
        return next((self.names[value] for value in values if value in self.names), None)


def read_labels(path: Path) -> Labels:
    """A CSV with the columns value and label, as 3,HCM; a value without a label is left out.

    Raises:
        UserError: the table is not of this form.
    """
    names: dict[str, str] = {}
    for line, cells in read_table(path, ("value", "label")):
        if not cells["value"] or cells["value"] in names:
            raise UserError(f"{path} line {line}: value {cells['value']!r} is empty or given twice")
        names[cells["value"]] = cells["label"]
    if not any(names.values()):
        raise UserError(f"{path}: names no label; give rows of value,label")
    return Labels(names)


def read_table(path: Path, needed: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their line numbers; headers in any case, cells stripped.

    Raises:
        UserError: not a readable CSV, or a column of `needed` is absent.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            for name in needed:
                if name not in header:
                    there = ", ".join(header) or "none"
                    raise UserError(f"{path}: no column {name!r}; there are {there}")
            if len(set(header)) < len(header):
                raise UserError(f"{path}: two columns of one name; keep one")
            rows = []
            for cells in reader:
                if not cells:
                    continue  # an empty line
                if len(cells) != len(header):
                    raise UserError(
                        f"{path} line {reader.line_num}: {len(cells)} cells, the header has "
                        f"{len(header)}; put a cell with a comma in quotes"
                    )
                stripped = dict(zip(header, map(str.strip, cells), strict=True))
                rows.append((reader.line_num, stripped))
            return rows
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from error
