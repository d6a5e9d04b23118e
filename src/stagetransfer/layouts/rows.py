"""The rows of a layout, and their conversion to `Samples`: choice of classes and images, order."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stagetransfer.csv_records import check_spellings
from stagetransfer.errors import UserError, is_shown, is_utf8
from stagetransfer.layouts.compact_strings import FilePaths
from stagetransfer.layouts.folder_walk import class_images, listed
from stagetransfer.layouts.samples import Samples

# A class folder below the root ("train/CON"), and the split that its images belong to.
ClassFolders = dict[str, str | None]
Limit = int | None  # number of classes or images to use; None: all


class Row(NamedTuple):
    """One image: its path below the root with "/", its class, group and official split."""

    id: str
    label: str
    group: str | None = None
    split: str | None = None


def class_rows(
    root: Path, folders: ClassFolders, classes: Sequence[str] | None, max_classes: Limit
) -> tuple[list[str], list[Row]]:
    """Return the names of the chosen classes, and one row per image below their folders."""
    labels = {folder: folder.rpartition("/")[2] for folder in folders}
    names = choose_classes(root, {*labels.values()}, classes, max_classes)
    return names, [
        Row(f"{folder}/{name}", label, None, folders[folder])
        for folder, label in labels.items()
        if label in names
        for name in class_images(root / folder)
    ]


def choose_classes(
    root: Path, found: Collection[str], classes: Sequence[str] | None, max_classes: Limit
) -> list[str]:
    """Return the first `max_classes` of `classes`, or of all that were found, sorted."""
    check_classes(classes)
    _at_least(2, "max_classes", max_classes)
    names = sorted(found) if classes is None else list(classes)
    for name in names:
        if not is_shown(name) or len(name) > 200:
            raise UserError(
                f"{root}: class {name[:80]!r} is too long, or has a line break or a character "
                "that is not shown; rename it"
            )
    check_spellings(str(root), "classes", names)
    for name in names:
        if name not in found:
            raise UserError(f"{root}: class {name} has no image; there are {listed(sorted(found))}")
    if len(names) < 2:
        found_words = f"1 class found ({names[0]})" if names else "0 classes found"
        raise UserError(f"{root}: {found_words}; two or more are needed")
    return names[:max_classes]


def check_classes(classes: object) -> None:
    """Raise UserError unless the option, which can be anything, is a list of distinct names."""
    if classes is None:
        return
    if not isinstance(classes, list | tuple) or not all(isinstance(one, str) for one in classes):
        raise UserError(f"options.classes={classes}: must be a list of names, numbers in quotes")
    for name in classes:
        if classes.count(name) > 1:
            raise UserError(f"options.classes: {name} is given twice")


def to_samples(
    root: Path, rows: Iterable[Row], classes: Sequence[str], max_per_class: Limit
) -> Samples:
    """Return the rows as samples, sorted by id, which is the same order on every system.

    Either all or no rows have a group, and either all or no rows have a split. `max_per_class`
    images of one class and split are taken, evenly spaced.
    """
    _at_least(1, "max_per_class", max_per_class)
    parts: defaultdict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in sorted(rows):
        parts[row.label, row.split].append(row)
    if any(split == "train" for _, split in parts):
        for label, split in parts:
            if (label, "train") not in parts:
                raise UserError(f"{root}: class {label} has {split} images and none for training")
    kept = sorted(row for part in parts.values() for row in _evenly_spaced(part, max_per_class))
    ids = tuple(row.id for row in kept)
    for path in (root, *(root / name for name in ids if not is_utf8(name))):
        if not is_utf8(str(path)):
            raise UserError(f"{path}: the name is not UTF-8, so no table can hold it; rename it")
    number = {name: i for i, name in enumerate(classes)}
    groups = tuple(row.group for row in kept if row.group is not None) or None
    check_spellings(str(root), "patients (groups)", groups or ())
    splits = tuple(row.split for row in kept if row.split is not None) or None
    labels = np.array([number[row.label] for row in kept], dtype=np.int64)
    return Samples(FilePaths(root, ids), ids, labels, tuple(classes), groups, splits)


def _evenly_spaced(rows: list[Row], most: Limit) -> list[Row]:
    if most is None or len(rows) <= most:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _at_least(least: int, option: str, value: Limit) -> None:
    if value is not None and value < least:
        raise UserError(f"options.{option}={value}: must be a whole number, {least} or more")
