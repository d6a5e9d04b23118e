"""Published and common layouts of labelled image sets on disk, each read into `Samples`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from stagetransfer.data.samples import SPLITS, Samples
from stagetransfer.errors import UserError

SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"]
)  # files of other kinds inside a class folder are an error
SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
DLD_CLASSES = ("CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR")


class _Table:
    """Rows in the making: (path, class, group, split)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[tuple[Path, str, str | None, str | None]] = []

    def add(
        self, path: Path, label: str, group: str | None = None, split: str | None = None
    ) -> None:
        self.rows.append((path, label, group, split))

    def samples(
        self,
        classes: Sequence[str] | None = None,
        max_classes: int | None = None,
        max_per_class: int | None = None,
    ) -> Samples:
        """The rows in the order of their paths; a class not in `classes` is left out."""
        names = list(classes or sorted({row[1] for row in self.rows}))[:max_classes]
        number = {name: i for i, name in enumerate(names)}
        rows = sorted((row for row in self.rows if row[1] in number), key=lambda row: str(row[0]))
        if max_per_class is not None:
            rows = _thinned(rows, names, max_per_class)
        present = {row[1] for row in rows}
        for name in names:
            if name not in present:
                raise UserError(f"{self.root}: class {name} has no image")
        if len(names) < 2:
            raise UserError(f"{self.root}: {len(names)} class found; two or more are needed")
        groups = [row[2] for row in rows]
        splits = [row[3] for row in rows]
        return Samples(
            images=tuple(row[0] for row in rows),
            ids=tuple(row[0].relative_to(self.root).as_posix() for row in rows),
            labels=np.array([number[row[1]] for row in rows], dtype=np.int64),
            classes=tuple(names),
            groups=tuple(map(str, groups)) if rows and None not in groups else None,
            splits=tuple(map(str, splits)) if rows and None not in splits else None,
        )


def read_folder(
    root: Path,
    *,
    groups: str | None = None,
    classes: Sequence[str] | None = None,
    max_classes: int | None = None,
    max_per_class: int | None = None,
) -> Samples:
    """A folder a class: root/<class>/**/image, or root/{train,val,test}/<class>/**/image.

    Args:
        groups: a regular expression with one pair of parentheses, searched in each image's path
            below `root`: what the parentheses match is its group (say its patient).
        classes: the classes to use, in the order of their labels; default all, sorted.
        max_classes, max_per_class: use the first classes and evenly spaced images of each.

    Raises:
        UserError: nothing there, an empty class, a file that is no image by its suffix, or an
            image without a group.
    """
    table = _Table(_existing(root))
    pattern = _pattern(groups)
    tops = _folders(root)
    splits = bool(tops) and all(top.name.lower() in SPLIT_NAMES for top in tops)
    for top in tops if splits else [root]:
        split = SPLIT_NAMES[top.name.lower()] if splits else None
        for folder in _folders(top):
            if classes is not None and folder.name not in classes:
                continue
            _add_class(table, folder, folder.name, split, pattern)
    if not table.rows:
        raise UserError(f"{root}: no class folders with images; expected {root}/<class>/image.png")
    return table.samples(classes, max_classes, max_per_class)


def read_imagenet(
    root: Path,
    *,
    max_classes: int | None = None,
    max_per_class: int | None = None,
) -> Samples:
    """ILSVRC: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, also below ILSVRC/Data/CLS-LOC.

    The validation images are the official validation split; the official test set has no labels.
    """
    inner = _existing(root) / "ILSVRC" / "Data" / "CLS-LOC"
    base = inner if inner.is_dir() else root
    table = _Table(root)
    for name, split in (("train", "train"), ("val", "validation")):
        folders = _folders(base / name) if (base / name).is_dir() else []
        if not folders:
            raise UserError(
                f"{base / name}: expected a folder a class (n01440764, ...); sort the images of "
                f"the flat official archive into class folders first, or use layout folder"
            )
        for folder in folders:
            _add_class(table, folder, folder.name, split)
    return table.samples(None, max_classes, max_per_class)


def read_curet(root: Path, *, partial: bool = False, max_per_class: int | None = None) -> Samples:
    """CUReT: root/sampleNN/*.png, 61 classes (as in the cropped sets curetcol and curetgrey).

    Args:
        partial: accept fewer classes.
    """
    table = _Table(_existing(root))
    folders = [folder for folder in _folders(root) if re.fullmatch(r"sample\d\d", folder.name)]
    if len(folders) != 61 and not partial:
        raise UserError(
            f"{root}: {len(folders)} folders sampleNN, CUReT has 61; give the folder that holds "
            f"them, or options.partial=true for a part of the set"
        )
    for folder in folders:
        _add_class(table, folder, folder.name)
    return table.samples(None, None, max_per_class)


def read_dtd(root: Path, *, fold: int = 1, max_per_class: int | None = None) -> Samples:
    """Describable Textures: root/images/<class>/*.jpg with root/labels/{train,val,test}<fold>.txt.

    Args:
        fold: 1 to 10, the official split. Without labels/ there is none; without images/ the
            classes are looked for in `root` itself.
    """
    images = _existing(root) / "images"
    images = images if images.is_dir() else root
    split_of: dict[str, str] = {}
    if (root / "labels").is_dir():
        for name in ("train", "val", "test"):
            listed = root / "labels" / f"{name}{fold}.txt"
            if not listed.is_file():
                raise UserError(f"{listed}: no such file; options.fold must be 1 to 10")
            split_of.update(dict.fromkeys(listed.read_text().split(), SPLIT_NAMES[name]))
    table = _Table(root)
    for folder in _folders(images):
        if folder.name == "labels" and images == root:
            continue
        for path in _images(folder):
            split = split_of.get(f"{folder.name}/{path.name}") if split_of else None
            if split_of and split is None:
                raise UserError(f"{path}: in none of the lists {root / 'labels'}/*{fold}.txt")
            table.add(path, folder.name, split=split)
    return table.samples(None, None, max_per_class)


def read_kth_tips(root: Path, *, max_per_class: int | None = None) -> Samples:
    """KTH-TIPS: root/<class>/*.png; KTH-TIPS-2: root/<class>/sample_{a..d}/*.png.

    In KTH-TIPS-2 a group is one physical sample (class/sample), which no split divides.
    """
    table = _Table(_existing(root))
    for folder in _folders(root):
        samples = [sub for sub in _folders(folder) if sub.name.startswith("sample_")]
        for sub in samples or [folder]:
            for path in _images(sub):
                table.add(path, folder.name, f"{folder.name}/{sub.name}" if samples else None)
    return table.samples(None, None, max_per_class)


def read_csv(
    root: Path,
    *,
    table: str = "labels.csv",
    classes: Sequence[str] | None = None,
    max_per_class: int | None = None,
) -> Samples:
    """A table root/labels.csv with the columns file, label and, where known, patient and split.

    `file` is a path below `root`; `patient` names the group; `split` is train, validation or
    test. Other columns are not read.

    Args:
        classes: the legal labels, in the order of their numbers; default all, sorted.
    """
    listed = _existing(root) / table
    if not listed.is_file():
        raise UserError(f"{listed}: no such table; name it with options.table=...")
    try:
        frame = pd.read_csv(listed, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{listed}: not a readable CSV ({str(error).strip()})") from error
    for name in ("file", "label"):
        if name not in frame:
            raise UserError(f"{listed}: no column {name!r}; there are {', '.join(map(str, frame))}")
    rows = _Table(root)
    seen: dict[str, int] = {}
    for line, row in enumerate(frame.to_dict("records"), 2):
        file, label = row["file"], row["label"]
        path = root / file
        if classes is not None and label not in classes:
            known = ", ".join(classes)
            raise UserError(f"{listed} line {line}: unknown class {label!r}; known are {known}")
        if file in seen:
            raise UserError(f"{listed} line {line}: {file} stands in line {seen[file]} already")
        if not file or not path.is_file():
            raise UserError(f"{listed} line {line}: no file {path}")
        seen[file] = line
        group, split = row.get("patient"), row.get("split")
        if group == "":
            raise UserError(
                f"{listed} line {line}: no patient; fill the cell or drop the whole column"
            )
        if split is not None and split.lower() not in SPLIT_NAMES:
            raise UserError(f"{listed} line {line}: split {split!r} is none of {', '.join(SPLITS)}")
        rows.add(path, label, group, SPLIT_NAMES[split.lower()] if split is not None else None)
    return rows.samples(classes, None, max_per_class)


def read_dld(
    root: Path,
    *,
    table: str = "labels.csv",
    groups: str | None = None,
    max_per_class: int | None = None,
) -> Samples:
    """Diffuse lung disease: the classes CON, GGO, HCM, RET, EMP, NOD, NOR in this order.

    Either root/labels.csv (see `read_csv`), or folders CON ... NOR, in train/ and test/ where
    the official split is kept.
    """
    if (_existing(root) / table).is_file():
        return read_csv(root, table=table, classes=DLD_CLASSES, max_per_class=max_per_class)
    return read_folder(root, groups=groups, classes=DLD_CLASSES, max_per_class=max_per_class)


LAYOUTS: dict[str, Callable[..., Samples]] = {
    "folder": read_folder,
    "imagenet": read_imagenet,
    "curet": read_curet,
    "dtd": read_dtd,
    "kth_tips": read_kth_tips,
    "csv": read_csv,
    "dld": read_dld,
}


def check_images(samples: Samples) -> None:
    """Opens the header of every file.

    Raises:
        UserError: names the first file that is no image, and how many more there are.
    """

    def broken(path: Path) -> str | None:
        try:
            with Image.open(path) as image:
                image.verify()
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            return str(error).splitlines()[0] if str(error) else type(error).__name__
        return None

    paths = [Path(path) for path in samples.images]
    with ThreadPoolExecutor() as pool:
        bad = [(p, why) for p, why in zip(paths, pool.map(broken, paths), strict=True) if why]
    if bad:
        more = f" (and {len(bad) - 1} more files)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0][0]}: not an image{more}; remove or replace it")


def _existing(root: Path) -> Path:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the folder that holds the images")
    return root


def _folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))


def _images(folder: Path) -> Iterator[Path]:
    """The images below a class folder; hidden files and Thumbs.db are the system's, not data."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "Thumbs.db":
                continue
            if entry.is_dir():
                yield from _images(Path(entry.path))
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield Path(entry.path)
            else:
                raise UserError(f"{entry.path}: not an image; move it out of the class folder")


def _add_class(
    table: _Table,
    folder: Path,
    label: str,
    split: str | None = None,
    pattern: re.Pattern[str] | None = None,
) -> None:
    count = len(table.rows)
    for path in _images(folder):
        group = None
        if pattern is not None:
            match = pattern.search(path.relative_to(table.root).as_posix())
            if match is None:
                raise UserError(
                    f"{path}: options.groups={pattern.pattern!r} does not match it, so its group "
                    f"is unknown"
                )
            group = match[1]
        table.add(path, label, group, split)
    if len(table.rows) == count:
        raise UserError(f"{folder}: class {label} has no image; add some or remove the folder")


def _pattern(groups: str | None) -> re.Pattern[str] | None:
    if groups is None:
        return None
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise UserError(f"options.groups={groups!r} is no pattern: {error}") from error
    if pattern.groups != 1:
        raise UserError(f"options.groups={groups!r} needs one pair of parentheses")
    return pattern


def _thinned(
    rows: list[tuple[Path, str, str | None, str | None]], names: Sequence[str], most: int
) -> list[tuple[Path, str, str | None, str | None]]:
    """At most `most` images of each class in each split, evenly spaced."""
    parts: dict[tuple[str, str | None], list[tuple[Path, str, str | None, str | None]]] = {}
    for row in rows:
        parts.setdefault((row[1], row[3]), []).append(row)
    kept = []
    for part in parts.values():
        if len(part) > most:
            part = [part[i] for i in np.linspace(0, len(part) - 1, most).round().astype(int)]
        kept.extend(part)
    return sorted(kept, key=lambda row: str(row[0]))
