"""What long commands show while they work: a progress bar, and the time that is left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar of `total` steps on stderr while the block runs; nothing without a terminal.

    Call the function that the block gets with the name of each step, before the step.
    """
    console = Console(stderr=True)
    columns = (title, BarColumn(bar_width=16), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(
        *columns, "{task.description}", console=console, transient=True, redirect_stdout=False,
        disable=not console.is_terminal,
    )  # fmt: skip
    task, begun = bar.add_task("", total=total), 0

    def step(name: str) -> None:
        nonlocal begun
        bar.update(task, completed=begun, description=name)
        begun += 1

    with bar:
        yield step


def clock(seconds: float) -> str:
    """Return hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
