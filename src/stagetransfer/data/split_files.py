"""Split files: a CSV that assigns each image to a fold, or to training, validation or test.

One row per image with the columns `id` or `file` (for files the path below the domain's root),
`fold` (0, 1, ...) or `split` (train, validation, test) and, if known, `group` (patient). Other
columns, such as the label that `write_split_file` adds, are not read.
"""

import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stagetransfer.csv_records import check_not_missing, check_spellings, records
from stagetransfer.data.holdout import check_disjoint
from stagetransfer.errors import UserError
from stagetransfer.files import csv_text, write_text
from stagetransfer.layouts.folder_walk import SPLIT_NAMES
from stagetransfer.layouts.samples import Samples
from stagetransfer.names import SPLITS

_OR_WRITE = "or write the file with stagetransfer split"


@dataclass(frozen=True)
class SplitFile:
    """The content of a split file."""

    path: Path
    parts: dict[str, str]  # the split of each image by id, or the number of its fold as text
    groups: dict[str, str] | None  # the group of each image by id
    folds: int | None  # their number k; None if the file is one fixed split

    def check_fold(self, fold: int | None, key: str) -> None:
        """Raise UserError unless `fold`, the value of `key`, fits the file."""
        if self.folds is None:
            if fold is not None:
                raise UserError(f"{key}={fold}: {self.path} has no folds but one split; leave it")
        elif fold not in range(self.folds):
            given = f"{key}={fold}" if fold is not None else f"{key} is required"
            raise UserError(
                f"{given}: {self.path} has the folds 0 to {self.folds - 1}. Set one as the test "
                f"set, {key}=0, or all in a sweep, {key}={','.join(map(str, range(self.folds)))}."
            )

    def record(self, fold: int | None) -> dict[str, Any]:
        """Return a digest of all rows in any order, and the fold, for hashes and records."""
        groups = self.groups or {}
        rows = sorted((name, part, groups.get(name, "")) for name, part in self.parts.items())
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
        return {"digest": digest, "fold": fold, "folds": self.folds}

    def apply(self, samples: Samples, fold: int | None) -> Samples:
        """Return the samples with the splits of the file.

        With folds, `fold` is the test set and all others are training images. Samples without
        groups get those of the file. Both must have the same images and groups.
        """
        if unknown := self.parts.keys() - {*samples.ids}:
            raise UserError(
                f"{self.path}: not in the data: {len(unknown)} of its images, such as "
                f"{min(unknown)!r}. Remove their rows, {_OR_WRITE}."
            )
        if missing := {*samples.ids} - self.parts.keys():
            raise UserError(
                f"{self.path}: without a row: {len(missing)} images of the data, such as "
                f"{min(missing)!r}. Add them, {_OR_WRITE}."
            )
        groups = samples.groups
        if self.groups is not None:
            given = tuple(self.groups[name] for name in samples.ids)
            for name, of_data, of_file in zip(samples.ids, groups or given, given, strict=True):
                if of_data != of_file:
                    raise UserError(
                        f"{self.path}: {name} is of group {of_file!r}, but of {of_data!r} in the "
                        f"data. Give both the same group, {_OR_WRITE}."
                    )
            groups = given
        parts = np.array([self.parts[name] for name in samples.ids])
        if groups is not None:
            prefix = "" if self.folds is None else "fold "
            rows = {f"{prefix}{part}": np.flatnonzero(parts == part) for part in np.unique(parts)}
            check_disjoint(groups, rows, f"{self.path}: ")
        if self.folds is not None:
            parts = np.where(parts == str(fold), "test", "train")
        trained = np.unique(samples.labels[parts == "train"])
        for label in np.setdiff1d(samples.labels, trained)[:1]:
            where = "" if fold is None else f" outside fold {fold}"
            raise UserError(
                f"{self.path}: class {samples.classes[label]} has no training image{where}. Move "
                f"some of its rows, {_OR_WRITE}."
            )
        return replace(samples, groups=groups, splits=tuple(map(str, parts)))


def read_split_file(path: Path) -> SplitFile:
    """Read a split file; errors name the line."""
    parts: dict[str, str] = {}
    groups: dict[str, str] = {}
    cure = f"write it with stagetransfer split ... --out {path}"
    part_column = ""
    for line, cells in records(path, (), cure, once=("id", "file", "fold", "split", "group")):
        where = f"{path} line {line}"
        id_column = _only_column(path, cells, "id", "file")
        part_column = _only_column(path, cells, "fold", "split")
        name = posixpath.normpath(cells[id_column].replace("\\", "/"))
        if name in parts:
            raise UserError(f"{where}: {name} is in an earlier line already")
        parts[name] = _part(cells[part_column], part_column, where)
        if cells.get("group"):
            check_not_missing(where, {"group": cells["group"]})
            groups[name] = cells["group"]
        elif groups:
            raise UserError(f"{where}: no group; fill the cell or empty the whole column")
    if not parts:
        raise UserError(f"{path}: names no image; {cure}")
    for without in [name for name in parts if groups and name not in groups][:1]:
        raise UserError(f"{path}: {without} has no group; fill the cell or empty the whole column")
    check_spellings(str(path), "groups", groups.values())
    folds = _count_folds(path, parts.values()) if part_column == "fold" else None
    if folds is None and "train" not in parts.values():
        raise UserError(f"{path}: no image is in train; a split needs some")
    return SplitFile(path, parts, groups or None, folds)


def _only_column(path: Path, cells: Mapping[str, str], first: str, second: str) -> str:
    """Return the one of two columns that the file has."""
    found = [name for name in (first, second) if name in cells]
    if len(found) != 1:
        wrong = f"both columns {first!r} and" if found else f"no column {first!r} or"
        raise UserError(f"{path}: {wrong} {second!r}; there are {', '.join(cells)}, give one")
    return found[0]


def _part(text: str, column: str, where: str) -> str:
    """Return the name of the split, or the number of the fold without leading zeros."""
    if column == "split":
        if text.lower() not in SPLIT_NAMES:
            raise UserError(f"{where}: split {text!r} is none of {', '.join(SPLITS)}")
        return SPLIT_NAMES[text.lower()]
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{where}: fold {text!r} is not a whole number, 0 or more")
    return str(int(text))


def _count_folds(path: Path, parts: Iterable[str]) -> int:
    found = {*map(int, parts)}
    count = max(found) + 1
    if count < 2:
        raise UserError(f"{path}: all images are in fold 0; two or more folds are needed")
    for missing in sorted({*range(len(found))} - found)[:1]:
        raise UserError(
            f"{path}: no image is in fold {missing}, though there is a fold {count - 1}. "
            "Number the folds from 0, without gaps."
        )
    return count


def write_split_file(path: Path, samples: Samples, column: str, parts: Sequence[object]) -> None:
    """Write `id`, `group`, `label` and `column` ("fold" or "split") of each sample.

    A file with other content is never replaced; runs may refer to it.
    """
    labels = [samples.classes[label] for label in samples.labels]
    table = {"id": samples.ids, "group": samples.groups or "", "label": labels, column: parts}
    text = csv_text(pd.DataFrame(table))
    if path.exists() and (not path.is_file() or path.read_text("utf-8") != text):
        raise UserError(f"{path}: exists with other content. Give another --out.")
    write_text(path, text)
