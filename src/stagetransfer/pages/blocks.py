"""The parts of a report: sections that hold paragraphs, lists, tables and plots."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Text:
    """A paragraph, of the kind text, warning, note, question or answer; or the path of a link."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Bullets:
    """A list with one bullet per line; one of the kind "problems" is emphasised."""

    lines: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True)
class Table:
    """A table on the page, and its unrounded numbers in tables/<name>.csv and .tex."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]  # as shown; a cell may have a second line, after a newline
    notes: Sequence[str]
    data: pd.DataFrame  # the content of the CSV file
    left: int = 1  # the number of columns with text, which are aligned to the left
    kind: str = "table"


@dataclass(frozen=True)
class Plot:
    """A figure, written to plots/<name>.png and .svg; or an image file, which is copied."""

    name: str
    title: str
    caption: str
    figure: Figure | Path
    alt: str = ""  # what it shows, for those who cannot see it; empty: the title
    kind: str = "plot"

    @property
    def files(self) -> list[Path]:
        """The files below the report's folder: Markdown shows the first, HTML the last."""
        if isinstance(self.figure, Path):
            return [Path("visualization", self.figure.name)]
        return [Path("plots", f"{self.name}{suffix}") for suffix in (".png", ".svg")]


@dataclass(frozen=True)
class Data:
    """The numbers of a plot: written to tables/<name>.csv, but not shown on the page."""

    name: str
    data: pd.DataFrame
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
