"""The table behind `--labels`: names for mask values, and new names for labels."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stagetransfer.errors import UserError
from stagetransfer.files import require_file


@dataclass(frozen=True)
class LabelTable:
    """The name of each mask value or label: "" leaves the value out.

    If `names` is None, all values are kept as they are.
    """

    names: Mapping[str, str] | None = None

    def name_of(self, *values: str) -> str | None:
        """Return the name of the first value that has one; None if no value has a name."""
        if self.names is None:
            return values[0]
        return next((self.names[value] for value in values if value in self.names), None)


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV with the columns value and label; a value with an empty label is left out."""
    names: dict[str, str] = {}
    for line, cells in read_csv(path, ("value", "label")):
        if not cells["value"] or cells["value"] in names:
            raise UserError(
                f"{path} line {line}: value {cells['value']!r} is empty or occurs twice. "
                "Give each value once"
            )
        names[cells["value"]] = cells["label"]
    if not any(names.values()):
        raise UserError(f"{path}: the table names no label. Add rows of value,label")
    return LabelTable(names)


def read_csv(path: Path, required: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV with their line numbers, stripped, by lower-case column name."""
    try:
        require_file(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            for name in required:
                if name not in header:
                    existing = ", ".join(header) or "none"
                    raise UserError(f"{path}: no column {name!r}. The columns are: {existing}")
            if len(set(header)) < len(header):
                raise UserError(f"{path}: two columns have the same name. Keep one of them")
            rows = []
            for row in filter(None, reader):  # without empty lines
                if len(row) != len(header):
                    raise UserError(
                        f"{path} line {reader.line_num}: {len(row)} cells, but the header has "
                        f"{len(header)}. Put cells that contain a comma in quotes"
                    )
                rows.append((reader.line_num, dict(zip(header, map(str.strip, row), strict=True))))
            return rows
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from error
