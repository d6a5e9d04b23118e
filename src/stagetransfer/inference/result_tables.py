"""Windows, patches and shares as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stagetransfer.inference.calibrated_classifier import Verdicts
from stagetransfer.inference.label_map import shares
from stagetransfer.inference.read_slice import Opinion


@dataclass(frozen=True)
class Place:
    """Which slice: its file below the input, its series' number in this call (from 1), its number
    within the series (from 0)."""

    file: str
    series: int
    index: int

    @property
    def stem(self) -> str:
        """As 01-0012: names its files."""
        return f"{self.series:02d}-{self.index:04d}"

    @property
    def cells(self) -> dict[str, Any]:
        """The first columns of every table."""
        return {"file": self.file, "series": self.series, "slice": self.index}


def verdict_table(verdicts: Verdicts, names: Sequence[str]) -> pd.DataFrame:
    """A row a window: opinion, class (the most probable), distance, p_<class> calibrated."""
    classes = names[: verdicts.probabilities.shape[1]]
    table = pd.DataFrame(
        {
            "opinion": [names[code] for code in verdicts.codes],
            "class": [classes[code] for code in verdicts.forced],
            "distance": verdicts.distances,
        }
    )
    for i, name in enumerate(classes):
        table[f"p_{name}"] = verdicts.probabilities[:, i]
    return table


def window_table(place: Place, opinion: Opinion, names: Sequence[str]) -> pd.DataFrame:
    """A row a window: its slice, x and y of its middle in the slice's pixels, and its verdict."""
    table = verdict_table(opinion.verdicts, names)
    where = {**place.cells, "x": opinion.middles[:, 0], "y": opinion.middles[:, 1]}
    for at, (name, values) in enumerate(where.items()):
        table.insert(at, name, values)
    return table


def share_row(place: Place, opinion: Opinion, names: Sequence[str]) -> dict[str, Any]:
    """One slice: windows, pixels of the lung, and of these each code's share."""
    return {
        **place.cells,
        "windows": len(opinion.verdicts),
        "lung_pixels": int(opinion.lung.sum()),
        **shares(opinion.read, names),
    }


def total_shares(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Over all slices, each by the pixels of its lung that were read; {} where none was."""
    read = [row for row in rows if row["windows"]]
    pixels = sum(row["lung_pixels"] for row in read)
    if not pixels:
        return {}
    return {name: sum(row[name] * row["lung_pixels"] for row in read) / pixels for name in names}
