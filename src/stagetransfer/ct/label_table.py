"""The table behind `--labels`: names for mask values, and new names for labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stagetransfer.csv_records import records
from stagetransfer.errors import UserError


@dataclass(frozen=True)
class LabelTable:
    """The name of each mask value or label: "" leaves the value out.

    The name of "*" is that of all values that have none. If `names` is None, all values are kept as
    they are.
    """

    names: Mapping[str, str] | None = None

    def name_of(self, *values: str) -> str | None:
        """Return the name of the first value that has one; None if no value has a name."""
        if self.names is None:
            return values[0]
        return next((self.names[one] for one in (*values, "*") if one in self.names), None)


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV with the columns value and label; a value with an empty label is left out.

    The value * stands for all others.
    """
    names: dict[str, str] = {}
    for line, cells in records(path, ("value", "label"), "give the right path"):
        if not cells["value"] or cells["value"] in names:
            raise UserError(
                f"{path} line {line}: value {cells['value']!r} is empty or occurs twice. "
                "Give each value once"
            )
        names[cells["value"]] = cells["label"]
    if not any(names.values()):
        raise UserError(f"{path}: the table names no label. Add rows of value,label")
    return LabelTable(names)
