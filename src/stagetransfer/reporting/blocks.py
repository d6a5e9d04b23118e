"""What a report is made of: sections of text, lists, tables and plots; and how numbers are said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from stagetransfer.statistics import Interval

DASH = "–"  # not defined, or not there


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Bullets:
    """A list of lines."""

    lines: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True)
class Table:
    """A table to read, and its numbers to compute with.

    name: the stem of tables/<name>.csv and .tex. rows: cells as they are shown; a cell's second
    line, after a newline, stands below its first. left: how many columns hold words. data: what
    the CSV holds, unrounded; None: the cells.
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
        """What the CSV holds."""
        if self.data is not None:
            return self.data
        cells = [[cell.replace("\n", " ") for cell in row] for row in self.rows]
        return pd.DataFrame(cells, columns=pd.Index(list(self.columns)))


@dataclass(frozen=True)
class Plot:
    """A picture: `files` under the report's folder, the first for Markdown, the last for HTML."""

    title: str
    files: Sequence[Path]
    caption: str
    kind: str = "plot"


@dataclass(frozen=True)
class Data:
    """Numbers behind a plot: tables/<name>.csv, not shown on the page."""

    name: str
    frame: pd.DataFrame
    kind: str = "data"


Block = Text | Bullets | Table | Plot | Data


@dataclass
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    appendix: bool = False

    @property
    def anchor(self) -> str:
        """Names the section in links."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def number(value: float | None, digits: int = 3) -> str:
    """Rounded; a dash if it is not defined; never -0.000."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{round(value, digits) + 0.0:.{digits}f}"


def span(low: float, high: float, digits: int = 3) -> str:
    """[low, high], or a dash."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return DASH
    return f"[{number(low, digits)}, {number(high, digits)}]"


def signed(result: Interval, factor: float = 1, digits: int = 3) -> str:
    """A difference with its interval below."""
    if not math.isfinite(result.estimate):
        return DASH
    value = round(result.estimate * factor, digits) + 0.0
    return f"{value:+.{digits}f}\n{span(result.low * factor, result.high * factor, digits)}"


def p_said(p: float | None) -> str:
    """A p-value to three digits."""
    if p is None or not math.isfinite(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(items: Iterable[object]) -> str:
    """a, b, c; a dash if there is none."""
    return ", ".join(str(item) for item in items) or DASH


def ratio_said(ratio: float) -> str:
    """r as in the run's name: 0.2, 1."""
    return format(ratio, "g")


def counted(count: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
