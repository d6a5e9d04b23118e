"""Splits in a file that runs name: who is trained on, validated on, tested on, or in which fold.

A CSV with a row an image: `id` (for files the path below the domain's root; `file` is read as
well), `fold` (0, 1, ...) or `split` (train, validation, test) and, where known, `group` (patient).
Other columns, such as the label that `write_split_file` adds, are not read.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stagetransfer.data.holdout import check_disjoint
from stagetransfer.data.layouts.csv_table import records
from stagetransfer.data.layouts.folder_walk import SPLIT_NAMES
from stagetransfer.data.samples import SPLITS, Samples
from stagetransfer.errors import UserError
from stagetransfer.files import write_text

_ANEW = "or make the file anew with stagetransfer split"


@dataclass(frozen=True)
class SplitFile:
    """A split file, read.

    Attributes:
        parts: the split, or the fold's number in digits, of each image by id.
        groups: the group of each image by id; None where the file has no such column.
        folds: k, or None if the file is one fixed split.
    """

    path: Path
    parts: dict[str, str]
    groups: dict[str, str] | None
    folds: int | None

    def check_fold(self, fold: int | None, key: str) -> None:
        """Raises UserError unless `fold` (the value of `key`) is one of the file's, or None where
        it has no folds."""
        if self.folds is None:
            if fold is not None:
                raise UserError(f"{key}={fold}: {self.path} has no folds but one split; leave it")
        elif str(fold) not in map(str, range(self.folds)):  # a config can give anything
            given = f"{key}={fold}" if fold is not None else f"{key} is required"
            raise UserError(
                f"{given}: {self.path} has the folds 0 to {self.folds - 1}; one is tested on, as "
                f"{key}=0, or all in a sweep, {key}={','.join(map(str, range(self.folds)))}"
            )

    def record(self, fold: int | None) -> dict[str, Any]:
        """What names the splits in hashes and records: a digest of all rows, whatever their order,
        and the fold. Not the path."""
        groups = self.groups or {}
        rows = sorted((name, part, groups.get(name, "")) for name, part in self.parts.items())
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
        return {"digest": digest, "fold": fold, "folds": self.folds}

    def apply(self, samples: Samples, fold: int | None) -> Samples:
        """The samples with the file's split in place of their own; of folds, `fold` is the test
        set and all others are training images. Groups come from the file where the samples have
        none.

        Raises:
            UserError: the file and the samples don't name the same images, differ in a group, a
                group is divided, or a class has no training image.
        """
        if unknown := self.parts.keys() - {*samples.ids}:
            raise UserError(
                f"{self.path}: not in the data: {len(unknown)} of its images, such as "
                f"{min(unknown)!r}; take their rows out, {_ANEW}"
            )
        if missing := {*samples.ids} - self.parts.keys():
            raise UserError(
                f"{self.path}: without a row: {len(missing)} images of the data, such as "
                f"{min(missing)!r}; add them, {_ANEW}"
            )
        groups = samples.groups
        if self.groups is not None:
            given = tuple(self.groups[name] for name in samples.ids)
            for name, ours, theirs in zip(samples.ids, groups or given, given, strict=True):
                if ours != theirs:
                    raise UserError(
                        f"{self.path}: {name} is of group {theirs!r}, but of {ours!r} in the data; "
                        f"make them alike, {_ANEW}"
                    )
            groups = given
        parts = np.array([self.parts[name] for name in samples.ids])
        if groups is not None:
            what = "" if self.folds is None else "fold "
            rows = {f"{what}{part}": np.flatnonzero(parts == part) for part in np.unique(parts)}
            check_disjoint(groups, rows, f"{self.path}: ")
        if self.folds is not None:
            parts = np.where(parts == str(fold), "test", "train")
        trained = np.unique(samples.labels[parts == "train"])
        for label in np.setdiff1d(np.unique(samples.labels), trained)[:1]:
            where = "" if fold is None else f" outside fold {fold}"
            raise UserError(
                f"{self.path}: class {samples.classes[label]} has no training image{where}; move "
                f"some of its rows, {_ANEW}"
            )
        return replace(samples, groups=groups, splits=tuple(map(str, parts)))


def read_split_file(path: Path) -> SplitFile:
    """Reads a split file.

    Raises:
        UserError: names the line of the file and what is wrong with it.
    """
    parts: dict[str, str] = {}
    groups: dict[str, str] = {}
    cure = f"make it with stagetransfer split ... --out {path}"
    once = ("id", "file", "fold", "split", "group")
    for line, cells in records(path, (), once, cure):
        id_column, part_column = (
            _either(path, cells, *both) for both in (("id", "file"), ("fold", "split"))
        )
        where = f"{path} line {line}"
        name = posixpath.normpath(cells[id_column].replace("\\", "/"))
        part = cells[part_column]
        if name in parts:
            raise UserError(f"{where}: {name} stands in an earlier line already")
        if part_column == "split":
            if part.lower() not in SPLIT_NAMES:
                raise UserError(f"{where}: split {part!r} is none of {', '.join(SPLITS)}")
            parts[name] = SPLIT_NAMES[part.lower()]
        elif not (part.isascii() and part.isdigit()):
            raise UserError(f"{where}: fold {part!r} is not a whole number, 0 or more")
        else:
            parts[name] = str(int(part))
        if cells.get("group"):
            groups[name] = cells["group"]
        elif groups:
            raise UserError(f"{where}: no group; fill the cell or empty the whole column")
    if not parts:
        raise UserError(f"{path}: names no image; {cure}")
    if groups and len(groups) < len(parts):
        lacking = next(name for name in parts if name not in groups)
        raise UserError(f"{path}: {lacking} has no group; fill the cell or empty the whole column")
    found = {*parts.values()}
    if part_column == "split":
        if "train" not in found:
            raise UserError(f"{path}: no image is in train; a split needs some")
        return SplitFile(path, parts, groups or None, None)
    count = max(map(int, found)) + 1
    if count < 2:
        raise UserError(f"{path}: all images are in fold 0; folds are two or more")
    if lacking_folds := [i for i in range(count) if str(i) not in found]:
        raise UserError(
            f"{path}: no image is in fold {lacking_folds[0]}, though there is a fold {count - 1}; "
            "number folds from 0, without gaps"
        )
    return SplitFile(path, parts, groups or None, count)


def _either(path: Path, cells: dict[str, str], first: str, second: str) -> str:
    found = [name for name in (first, second) if name in cells]
    if len(found) != 1:
        wrong = f"both columns {first!r} and" if found else f"no column {first!r} or"
        raise UserError(f"{path}: {wrong} {second!r}; there are {', '.join(cells)}, give one")
    return found[0]


def write_split_file(path: Path, samples: Samples, column: str, parts: Sequence[object]) -> None:
    """Writes `id`, `group`, `label` and `column` ("fold" or "split") of each sample.

    Raises:
        UserError: a file with other content is there: runs may name it.
    """
    text = pd.DataFrame(
        {
            "id": samples.ids,
            "group": samples.groups or "",
            "label": [samples.classes[label] for label in samples.labels],
            column: parts,
        }
    ).to_csv(index=False)
    if path.exists() and (not path.is_file() or path.read_text("utf-8") != text):
        raise UserError(f"{path} is there already, with other content; give another --out")
    write_text(path, text)
