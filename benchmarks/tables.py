"""The output of every benchmark: a table in Markdown, and one line on the machine below it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.timing import machine


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> None:
    """Print a table; the first column is aligned to the left, all others to the right."""
    table = Table(box=box.MARKDOWN, show_header=True)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(width=200)
    console.print(f"\n**{title}**\n", markup=False, highlight=False)
    console.print(table)
    for line in filter(None, (note, machine())):
        console.print(f"\n{line}", soft_wrap=True, highlight=False)


def with_interval(value: float, low: float, high: float) -> str:
    """Return "value [low, high]"; a dash if the value is not defined, and no ends that are not."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
