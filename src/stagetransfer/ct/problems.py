"""What is wrong with the input: gathered, told one line each, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stagetransfer.errors import UserError


@dataclass
class Problems:
    """Everything that would have to be left out, in the order in which it was found.

    A command reads on after a problem, so that one call names them all; it goes on to its result
    only where the user asked for that.
    """

    lines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, where: object, text: str, count: int = 1) -> None:
        """Notes one problem.

        Args:
            kind: a plural that a summary can count, as "truncated files"; never from a header.
            where: the file, folder or row of a table.
            text: what is wrong and what to do.
            count: how many things are left out by it.
        """
        self.lines.append(f"{where}: {text}")
        self.counts[kind] += count


class BadInput(UserError):
    """Problems of the input, one line each; leaving them out is the user's choice."""

    def __init__(self, lines: Sequence[str], option: str) -> None:
        self.lines = tuple(lines)
        there = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        super().__init__(f"{there} in the input, see above; mend them or leave them out: {option}")


def reason(error: BaseException) -> str:
    """The first line of a library's message, without the path that the caller names anyway."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text.rstrip(".")[:160]


def relative(path: Path, root: Path) -> str:
    """`path` below `root`, with forward slashes; the name alone if they are the same file."""
    return path.name if path == root else path.relative_to(root).as_posix()
