"""One folder per class: any such tree, and that of ImageNet."""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from stagetransfer.errors import UserError
from stagetransfer.layouts.folder_walk import (
    SPLIT_NAMES,
    class_folders,
    entries,
    is_image,
    listed,
)
from stagetransfer.layouts.rows import ClassFolders, Limit, Row, class_rows, to_samples
from stagetransfer.layouts.samples import Samples

log = logging.getLogger(__name__)


def read_folder(
    root: Path,
    *,
    groups: str | None = None,
    splits: bool | None = None,
    classes: Sequence[str] | None = None,
    max_classes: Limit = None,
    max_per_class: Limit = None,
) -> Samples:
    """Read one folder per class: root/<class>/**/image, or root/{train,val,test}/<class>/**/image.

    The images have an official split if every folder in `root` is named as one (`SPLIT_NAMES`:
    train, training, val, dev, test, ...).

    Args:
        groups: a regular expression with one pair of parentheses, searched in each image's id;
            the text in the parentheses is the image's group, for example its patient.
        splits: what folders in `root` that are named as a split mean. True: they are the split,
            and folders beside them are left out; False: all are classes. By default, a `root` in
            which both are possible is refused.
        classes: the classes to use, in the order of their labels; all by default, sorted.
    """
    names, rows = class_rows(root, find_classes(root, splits), classes, max_classes)
    if groups is not None:
        rows = _with_groups(root, rows, groups)
    return to_samples(root, rows, names, max_per_class)


def read_imagenet(root: Path, *, max_classes: Limit = None, max_per_class: Limit = None) -> Samples:
    """Read ILSVRC: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, also below ILSVRC/Data/CLS-LOC.

    val/ is the official validation split. The official test set has no labels and is not read.
    """
    entries(root)
    official = "ILSVRC/Data/CLS-LOC"
    base = f"{official}/" if (root / official).is_dir() else ""
    found: ClassFolders = {}
    for part in ("train", "val"):
        folder = root / base / part
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; ImageNet's are train/ and val/")
        if any(map(is_image, entries(folder)[1])):
            raise UserError(
                f"{folder}: its images are not in class folders, as in the official archive. Sort "
                "them into one folder per class (torchvision.datasets.ImageNet does so)."
            )
        found |= {f"{base}{part}/{name}": SPLIT_NAMES[part] for name in class_folders(folder)}
    names, rows = class_rows(root, found, None, max_classes)
    return to_samples(root, rows, names, max_per_class)


def find_classes(root: Path, splits: bool | None = None) -> ClassFolders:
    """Return the class folders of a tree, at its top or below train/, val/ and test/.

    `splits` as in `read_folder`; UserError if it is None and folders could be either.
    """
    tops = entries(root)[0]
    named = [top for top in tops if top.lower() in SPLIT_NAMES]
    others = [top for top in tops if top not in named]
    if splits is False or not named:
        if splits is None:
            _check_one_level(root, tops)
        return dict.fromkeys(class_folders(root))
    if others and splits is None:
        _refuse_mixture(root, named, others)
    if others:
        log.info("%s: left out, beside the splits: %s", root, listed(others))
    return {
        f"{top}/{name}": SPLIT_NAMES[top.lower()]
        for top in named
        for name in class_folders(root / top)
    }


def _refuse_mixture(root: Path, named: list[str], others: list[str]) -> NoReturn:
    for other in others:
        if inner := [name for name in entries(root / other)[0] if name.lower() in SPLIT_NAMES]:
            raise UserError(
                f"{root / other}: a nested copy of the data set, since it has {listed(inner)} as "
                f"{root} has. Move it away, or set options.splits=true to leave it out."
            )
    raise UserError(
        f"{root}: {listed(named)} are named as splits, and {listed(others)} not. Set "
        f"options.splits=true to leave {listed(others)} out, or options.splits=false if all of "
        "them are classes."
    )


def _check_one_level(root: Path, tops: list[str]) -> None:
    """Refuse folders that have mostly the same folders: the classes may be below them.

    A site, a fold or a split may lack a class, so half of the names in common suffice.
    """
    below = [entries(root / top) for top in tops]
    named = [set(folders) for folders, files in below if folders and not any(map(is_image, files))]
    if len(tops) < 2 or len(named) < len(tops):
        return
    common, every = set.intersection(*named), set.union(*named)
    if len(every) > 1 and 2 * len(common) >= len(every):
        raise UserError(
            f"{root}: {listed(tops)} have the same folders {listed(sorted(common))}. Set "
            f"options.splits=false if {listed(tops)} are the classes; otherwise sort the images "
            "into one folder per class, or list them in a table (layout csv)."
        )


def _with_groups(root: Path, rows: Iterable[Row], groups: str) -> list[Row]:
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise UserError(f"options.groups={groups!r}: not a regular expression ({error})") from error
    if pattern.groups != 1:
        raise UserError(f"options.groups={groups!r} needs one pair of parentheses")
    result = []
    for row in rows:
        match = pattern.search(row.id)
        if match is None or not match[1]:
            raise UserError(
                f"{root / row.id}: options.groups={groups!r} does not match it. Change the "
                "pattern, so that every image has a group."
            )
        result.append(row._replace(group=match[1]))
    return result
