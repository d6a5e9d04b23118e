"""Many strings, or many paths, in little memory.

A Python string in a list takes about 60 bytes more than its letters, and a forked worker process
copies the memory page of every string that it reads. As arrays, a million paths take tens of
megabytes, which all processes share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CODE = ("utf-8", "surrogateescape")  # file names on disk need not be UTF-8


@dataclass(frozen=True, eq=False)
class PackedStrings(Sequence[str]):
    """N strings, one after the other in `text`; string i ends before `ends[i]`.

    `rows` selects and orders some of them, so that `take` copies no text.
    """

    text: NDArray[np.uint8]
    ends: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, strings: Iterable[str]) -> PackedStrings:
        codes = [string.encode(*_CODE) for string in strings]
        ends = np.cumsum([len(code) for code in codes], dtype=np.int64)
        return cls(np.frombuffer(b"".join(codes), dtype=np.uint8), ends)

    def take(self, rows: NDArray[np.int64]) -> PackedStrings:
        return PackedStrings(self.text, self.ends, rows if self.rows is None else self.rows[rows])

    def __len__(self) -> int:
        return len(self.ends if self.rows is None else self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        place = range(len(self))[index]  # raises IndexError beyond the end, as iteration needs
        row = place if self.rows is None else self.rows[place]
        begin = self.ends[row - 1] if row else 0
        return self.text[begin : self.ends[row]].tobytes().decode(*_CODE)


@dataclass(frozen=True)
class FilePaths(Sequence[Path]):
    """Paths of files below one folder, each created when it is asked for."""

    root: Path
    names: Sequence[str]  # below root, with "/"

    def take(self, rows: NDArray[np.int64]) -> FilePaths:
        return FilePaths(self.root, take_strings(self.names, rows))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        names = self.names[index]
        return FilePaths(self.root, names) if isinstance(index, slice) else self.root / names


def take_strings(strings: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    """Return the strings at these places, packed if they were packed."""
    if isinstance(strings, PackedStrings):
        return strings.take(rows)
    return tuple(strings[row] for row in rows)
