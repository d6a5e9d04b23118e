"""The rows of a layout, and their conversion to `Samples`: choice of classes and images, order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stagetransfer.data.compact_strings import FilePaths
from stagetransfer.data.layouts.folder_walk import class_images, listed
from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError


class Row(NamedTuple):
    """One image: its path below the root with "/", its class, group and official split."""

    id: str
    label: str
    group: str | None = None
    split: str | None = None


def class_rows(root: Path, folder: str, split: str | None = None) -> list[Row]:
    """Return one row per image below the class folder root/`folder`, whose name is the label."""
    label = folder.rpartition("/")[2]
    return [Row(f"{folder}/{name}", label, None, split) for name in class_images(root / folder)]


def choose_classes(
    root: Path, found: Collection[str], classes: Sequence[str] | None, max_classes: int | None
) -> list[str]:
    """Return the first `max_classes` of `classes`, or of all that were found, sorted.

    Raises:
        UserError: one of `classes` was not found or is given twice, or fewer than two are left.
    """
    check_classes(classes)
    _at_least(2, "max_classes", max_classes)
    names = sorted(found) if classes is None else list(classes)
    for name in names:
        if name not in found:
            raise UserError(f"{root}: class {name} has no image; there are {listed(sorted(found))}")
    if len(names) < 2:
        found_words = f"{len(names)} class{'' if names else 'es'} found"
        raise UserError(f"{root}: {found_words}; two or more are needed")
    return names[:max_classes]


def check_classes(classes: Sequence[str] | None) -> None:
    """Raise UserError unless the option is a list of distinct names."""
    if classes is None:
        return
    # `object`: the value comes from a config file or a command line, where it can be anything.
    names: list[object] = list(classes)
    if isinstance(classes, str) or not all(isinstance(name, str) for name in names):
        raise UserError(f"options.classes={classes}: must be a list of names, numbers in quotes")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"options.classes: {name} is given twice")


def to_samples(
    root: Path, rows: Iterable[Row], classes: Sequence[str], max_per_class: int | None
) -> Samples:
    """Return the rows as samples, sorted by id, which is the same order on every system.

    Args:
        rows: either all or none have a group, and either all or none have a split.
        max_per_class: number of images of one class and split to take, evenly spaced.

    Raises:
        UserError: a class has no training image.
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
    number = {name: i for i, name in enumerate(classes)}
    groups = [row.group for row in kept if row.group is not None]
    splits = [row.split for row in kept if row.split is not None]
    return Samples(
        images=FilePaths(root, ids),
        ids=ids,
        labels=np.array([number[row.label] for row in kept], dtype=np.int64),
        classes=tuple(classes),
        groups=tuple(groups) or None,
        splits=tuple(splits) or None,
    )


def _evenly_spaced(rows: list[Row], most: int | None) -> list[Row]:
    if most is None or len(rows) <= most:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _at_least(least: int, option: str, value: int | None) -> None:
    given: object = value
    if given is not None and (not isinstance(given, int) or given < least):
        raise UserError(f"options.{option}={given}: must be a whole number, {least} or more")
