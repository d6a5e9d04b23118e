"""The parts of a report: sections that hold paragraphs, lists, tables and plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Text:
    """A paragraph; one of the kind "warning" is emphasised."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Bullets:
    """A list with one bullet per line; one of the kind "problems" is emphasised."""

    lines: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True)
class Table:
    """A table on the page, and its unrounded numbers in a CSV file.

    Attributes:
        name: the stem of tables/<name>.csv and tables/<name>.tex.
        rows: the cells as they are shown. A cell may have a second line, after a newline.
        left: the number of columns with text, which are aligned to the left.
        data: the content of the CSV file; None: the cells as they are shown.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    left: int = 1
    data: pd.DataFrame | None = None
    kind: str = "table"

    @property
    def frame(self) -> pd.DataFrame:
        """The content of the CSV file."""
        if self.data is not None:
            return self.data
        cells = [[cell.replace("\n", " ") for cell in row] for row in self.rows]
        return data_frame(self.columns, cells)


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        files: paths below the report's folder; Markdown shows the first, HTML the last.
    """

    title: str
    files: Sequence[Path]
    caption: str
    kind: str = "plot"


@dataclass(frozen=True)
class Data:
    """The numbers of a plot: written to tables/<name>.csv, but not shown on the page."""

    name: str
    frame: pd.DataFrame
    kind: str = "data"


Block = Text | Bullets | Table | Plot | Data


@dataclass
class Section:
    """A heading and the blocks below it; appendices are at the end of the page."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    appendix: bool = False

    @property
    def anchor(self) -> str:
        """The name of the section in links."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def data_frame(columns: str | Sequence[str], rows: Iterable[Sequence[object]]) -> pd.DataFrame:
    """Return a data frame of these rows; a text of columns is split at its spaces."""
    names = columns.split() if isinstance(columns, str) else list(columns)
    return pd.DataFrame(list(rows), columns=pd.Index(names))
