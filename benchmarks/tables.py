"""How every benchmark prints: a table that is Markdown too, and the machine below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.timing import machine


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints the rows under the title; the first column stands left, all others right."""
    table = Table(box=box.MARKDOWN, show_header=True)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=200)
    console.print(f"\n**{title}**\n", markup=False, highlight=False)
    console.print(table)
    console.print(f"\n{machine()}", soft_wrap=True, highlight=False)
