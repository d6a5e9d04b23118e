"""Problems of the input: collected with one line each, and counted by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stagetransfer.errors import UserError

SKIP_OPTION = "--skip-bad"


@dataclass
class Problems:
    """Everything that would have to be left out, in the order in which it was found.

    A command continues reading after a problem, so that one call reports all of them. It writes
    its result only if there are none, or if the user asked to leave them out.
    """

    lines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, where: object, text: str, count: int = 1) -> None:
        """Record one problem.

        Args:
            kind: a plural noun for the summary, such as "truncated files"; never header content.
            where: the file, folder or table row.
            text: what is wrong and what to do.
            count: the number of items that the problem leaves out.
        """
        self.lines.append(f"{where}: {text}")
        self.counts[kind] += count

    def check(self, skip_bad: bool) -> None:
        """Raise `BadInput` if there are problems and the user did not ask to leave them out."""
        if self.lines and not skip_bad:
            raise BadInput(self.lines)


class BadInput(UserError):
    """Problems of the input, whose lines were shown before."""

    def __init__(self, lines: Sequence[str]) -> None:
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        super().__init__(
            f"{count} in the input, listed above. Correct the files, or leave them out with "
            f"{SKIP_OPTION}"
        )


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message, at most 160 characters."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text.rstrip(".")[:160]


def relative_name(path: Path, root: Path) -> str:
    """Return `path` below `root` with forward slashes; the file name if both are the same file."""
    return path.name if path == root else path.relative_to(root).as_posix()
