"""Many strings, and many paths, in little memory.

A Python string in a list costs some sixty bytes beside its letters, and a process forked off to
decode images copies the page of each one that it looks at. In arrays a million paths take tens of
megabytes, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

_CODE = ("utf-8", "surrogateescape")  # names on disk need not be UTF-8


@dataclass(frozen=True, eq=False)
class Names(Sequence[str]):
    """N strings, end to end in `text`; string i ends before `ends[i]`.

    `rows` chooses and orders some of them: `take` copies no text.
    """

    text: NDArray[np.uint8]
    ends: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, strings: Iterable[str]) -> Names:
        """The strings, packed."""
        codes = [string.encode(*_CODE) for string in strings]
        ends = np.cumsum([len(code) for code in codes], dtype=np.int64)
        return cls(np.frombuffer(b"".join(codes), dtype=np.uint8), ends)

    def take(self, rows: NDArray[np.int64]) -> Names:
        """The strings at these places."""
        return Names(self.text, self.ends, rows if self.rows is None else self.rows[rows])

    def __len__(self) -> int:
        return len(self.ends if self.rows is None else self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        place = range(len(self))[index]  # IndexError beyond the end, which iteration needs
        row = place if self.rows is None else self.rows[place]
        begin = self.ends[row - 1] if row else 0
        return self.text[begin : self.ends[row]].tobytes().decode(*_CODE)


@dataclass(frozen=True)
class Files(Sequence[Path]):
    """The paths of files below one folder, made when they are asked for."""

    root: Path
    names: Sequence[str]  # below root, with "/"

    def take(self, rows: NDArray[np.int64]) -> Files:
        """The paths at these places."""
        return Files(self.root, taken(self.names, rows))

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Files: ...
    def __getitem__(self, index: int | slice) -> Path | Files:
        if isinstance(index, slice):
            return Files(self.root, self.names[index])
        return self.root / self.names[index]


def taken(names: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    """The strings at these places, of the kind they were."""
    if isinstance(names, Names):
        return names.take(rows)
    return tuple(names[row] for row in rows)
