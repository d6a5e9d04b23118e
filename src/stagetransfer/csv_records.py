"""Rows of a CSV from any program, with their line numbers."""

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from stagetransfer.errors import UserError
from stagetransfer.files import require_file, restored

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
# What programs write for a missing value, in lower case.
_MISSING = frozenset(["nan", "na", "n/a", "#n/a", "<na>", "null", "nat"])


def records(
    path: Path, needed: Sequence[str], cure: str, *, once: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and stripped cells by column; pandas would lose the line numbers.

    Cells are separated by commas, semicolons or tabs, whichever the header has most of, and the
    names of columns are taken in lower case. UserError if the file is no such table; the message
    names the line.

    Args:
        needed: columns that must exist.
        cure: what to do if there is no such file.
        once: columns that must not occur twice; None: all.
    """
    try:
        require_file(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=first.count)  # the comma, if there is none
            reader = csv.reader(file, strict=True, delimiter=separator)
            header = [name.strip().lower() for name in next(reader, [])]
            if header and header[0].startswith("sep="):
                raise UserError(f"{path} line 1: {first.strip()!r} is no header. Remove the line")
            if missing := [name for name in needed if name not in header]:
                there = ", ".join(header) or "none"
                raise UserError(f"{path}: no column {missing[0]!r}; there are {there}")
            if doubled := [name for name in once or header if header.count(name) > 1]:
                raise UserError(f"{path}: two columns {doubled[0]!r}; keep one")
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue  # an empty line, or cells that a spreadsheet left empty
                if len(cells) != len(header):
                    raise UserError(
                        f"{path} line {reader.line_num}: {len(cells)} cells, the header has "
                        f"{len(header)}; put a cell with a {_SEPARATORS[separator]} in quotes"
                    )
                texts = (restored(cell.strip()) for cell in cells)
                yield reader.line_num, dict(zip(header, texts, strict=True))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such table; {cure}") from error
    except UnicodeError as error:
        raise UserError(f"{path}: not in UTF-8. Save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num}: not a readable CSV ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from error


def check_not_missing(where: str, cells: Mapping[str, str | None]) -> None:
    """Raise UserError if a cell has a text that stands for a missing value, such as nan."""
    for name, text in cells.items():
        if text is not None and (text.lower() in _MISSING or text == "None"):  # Python's
            raise UserError(
                f"{where}: the {name} {text!r} stands for a missing value; fill the cell, or "
                "choose another name if it is meant as one"
            )


def check_spellings(where: str, what: str, names: Iterable[str]) -> None:
    """Raise UserError if two names look like two spellings of one, see `two_spellings`."""
    if found := two_spellings(names):
        raise UserError(
            f"{where}: the {what} {found[0]!r} and {found[1]!r} look like two spellings of one "
            "name; write it alike everywhere, or choose clearly different names"
        )


def two_spellings(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that differ only in case, spaces, leading zeros or ".0", if there are any.

    A table that went through a spreadsheet has 1, 01 and 1.0 for one patient.
    """
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        number = re.fullmatch(r"0*(\d+)(\.0*)?", folded)
        earlier = seen.setdefault(number[1] if number else folded, name)
        if earlier != name:
            return earlier, name
    return None
