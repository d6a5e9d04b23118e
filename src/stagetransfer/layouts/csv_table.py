"""A CSV table of images."""

import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from stagetransfer.csv_records import check_not_missing, records
from stagetransfer.errors import UserError
from stagetransfer.layouts.folder_walk import SPLIT_NAMES, SUFFIXES, entries, is_image
from stagetransfer.layouts.rows import Limit, Row, check_classes, choose_classes, to_samples
from stagetransfer.layouts.samples import Samples
from stagetransfer.names import SPLITS

_NEEDED = ("file", "label")


def read_csv(
    root: Path,
    *,
    table: str = "labels.csv",
    classes: Sequence[str] | None = None,
    max_classes: Limit = None,
    max_per_class: Limit = None,
) -> Samples:
    """Read a table root/labels.csv with the columns file, label and, if known, patient and split.

    `file` is a path below `root`, `patient` names the group, and `split` is train, validation (val,
    valid) or test. Other columns, and images that are not in the table, are ignored. `table` is
    absolute or below `root`; `classes` are the allowed labels, in the order of their numbers.
    """
    entries(root)
    check_classes(classes)
    path = root / table
    rows: list[Row] = []
    line_of: dict[str, int] = {}
    cure = "name it with options.table=..."
    for line, cells in records(path, _NEEDED, cure, once=(*_NEEDED, "patient", "split")):
        row = _row(root, f"{path} line {line}", cells, classes)
        if line_of.setdefault(row.id, line) != line:
            raise UserError(f"{path} line {line}: {row.id} is in line {line_of[row.id]} already")
        rows.append(row)
    names = choose_classes(path, {row.label for row in rows}, classes, max_classes)
    return to_samples(root, (row for row in rows if row.label in names), names, max_per_class)


def _row(root: Path, where: str, cells: dict[str, str], classes: Sequence[str] | None) -> Row:
    label, group, split = cells["label"], cells.get("patient"), cells.get("split")
    for name in ("file", "label"):
        if not cells[name]:
            raise UserError(f"{where}: no {name}; fill the cell")
    if classes is not None and label not in classes:
        raise UserError(f"{where}: unknown class {label!r}; known are {', '.join(classes)}")
    if group == "":
        raise UserError(f"{where}: no patient; fill the cell or remove the whole column")
    check_not_missing(where, {"label": label, "patient": group})
    if split is not None and split.lower() not in SPLIT_NAMES:
        raise UserError(f"{where}: split {split!r} is none of {', '.join(SPLITS)}")
    file = _below(root, where, cells["file"])
    if not is_image(file):
        raise UserError(f"{where}: {file} is not an image; these are {', '.join(SUFFIXES)}")
    if not (root / file).is_file():
        raise UserError(f"{where}: no file {root / file}")
    return Row(file, label, group, None if split is None else SPLIT_NAMES[split.lower()])


def _below(root: Path, where: str, text: str) -> str:
    """Return a file of the table as its path below `root`, with "/" and without "." or ".."."""
    # Tables written on Windows have backslashes; "./a.png" and "a.png" are one file.
    file = posixpath.normpath(text.replace("\\", "/"))
    if len(file) > 1000:
        raise UserError(f"{where}: a file name of {len(file)} characters; correct the cell")
    folder = f"{posixpath.abspath(root)}/"
    if file.startswith(folder):
        return file.removeprefix(folder)
    absolute = PurePosixPath(file).is_absolute() or PureWindowsPath(file).is_absolute()
    if absolute or file.split("/")[0] == "..":
        raise UserError(f"{where}: {file} is not below {root}; give the path from there")
    return file
