"""A CSV table of images."""

import csv
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from stagetransfer.data.layouts.folder_walk import SPLIT_NAMES, SUFFIXES, entries, is_image
from stagetransfer.data.layouts.rows import Limit, Row, check_classes, choose_classes, to_samples
from stagetransfer.data.samples import SPLITS, Samples
from stagetransfer.errors import UserError
from stagetransfer.files import require_file, restored

_NEEDED = ("file", "label")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
# What programs write for a missing value, in lower case.
_MISSING = frozenset(["nan", "na", "n/a", "#n/a", "<na>", "null", "nat"])


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
    for line, cells in records(path, _NEEDED, (*_NEEDED, "patient", "split"), cure):
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


def check_not_missing(where: str, cells: Mapping[str, str | None]) -> None:
    """Raise UserError if a cell has a text that stands for a missing value, such as nan."""
    for name, text in cells.items():
        if text is not None and text.lower() in _MISSING:
            raise UserError(
                f"{where}: the {name} {text!r} stands for a missing value; fill the cell, or "
                "choose another name if it is meant as one"
            )


def records(
    path: Path, needed: Sequence[str], once: Sequence[str], cure: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and stripped cells by column; pandas would lose the line numbers.

    Cells are separated by commas, semicolons or tabs, whichever the header has most of, and the
    names of columns are taken in lower case. The columns `needed` must exist, and those of `once`
    not twice. `cure` says what to do if there is no such file.
    """
    try:
        require_file(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=first.count)  # the comma, if there is none
            reader = csv.reader(file, strict=True, delimiter=separator)
            header = [name.strip().lower() for name in next(reader, [])]
            if missing := [name for name in needed if name not in header]:
                there = ", ".join(header) or "none"
                raise UserError(f"{path}: no column {missing[0]!r}; there are {there}")
            if doubled := [name for name in once if header.count(name) > 1]:
                raise UserError(f"{path}: two columns {doubled[0]!r}; keep one")
            for cells in reader:
                if not cells:
                    continue  # an empty line
                if len(cells) != len(header):
                    raise UserError(
                        f"{path} line {reader.line_num}: {len(cells)} cells, the header has "
                        f"{len(header)}; put a cell with a {_SEPARATORS[separator]} in quotes"
                    )
                texts = (restored(cell.strip()) for cell in cells)
                yield reader.line_num, dict(zip(header, texts, strict=True))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such table; {cure}") from error
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from error
