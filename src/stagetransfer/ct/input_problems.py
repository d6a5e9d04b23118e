"""Problems of the input: collected with one line each, and counted by kind."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stagetransfer.errors import UserError, one_line
from stagetransfer.formats.unusable import Unusable

_SUFFIXES = (
    ".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".nhdr", ".mhd", ".mha", ".png", ".dcm", ".dicom",
    ".ima", ".roi", ".zip",
)  # fmt: skip


@dataclass
class Problems:
    """Everything that would have to be left out, in the order in which it was found.

    A command continues reading after a problem, so that one call reports all of them. It writes
    its result only if there are none, or if the user asked to leave them out. `notes` are lines on
    what is read although it may be a mistake, and `noted` counts them by kind.
    """

    lines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    noted: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, where: object, text: str, count: int = 1) -> None:
        """Record one problem of a file, folder or table row, which leaves out `count` items.

        `kind` is a plural noun for the summary, such as "truncated files"; never header content.
        `text` says what is wrong and what to do.
        """
        self.lines.append(one_line(f"{where}: {text}"))
        self.counts[kind] += count

    def note(self, kind: str, where: object, text: str) -> None:
        """Record what does not hinder the reading, but may be a mistake; see `add`."""
        self.notes.append(one_line(f"{where}: {text}"))
        self.noted[kind] += 1

    @contextmanager
    def recording(self, where: object) -> Iterator[None]:
        """Record the `Unusable` that ends the block, and continue after the block."""
        try:
            yield
        except Unusable as problem:
            self.add(problem.kind, where, str(problem))

    def check(self, skip_bad: bool) -> None:
        """Raise UserError if there are problems and the user did not ask to leave them out."""
        if self.lines and not skip_bad:
            count = "1 problem" if len(self.lines) == 1 else f"{len(self.lines)} problems"
            raise UserError(
                f"{count} in the input, listed above. Correct the files, or leave them out with "
                "--skip-bad"
            )


def without_suffix(name: str) -> str:
    """Return a file name or path without the suffix of a CT or mask file.

    Other dots belong to the name: 1.3.6.1.4.1.1000.nii.gz is 1.3.6.1.4.1.1000.
    """
    suffix = next((one for one in _SUFFIXES if name.lower().endswith(one)), "")
    return name[: len(name) - len(suffix)]


def relative_name(path: Path, root: Path) -> str:
    """Return `path` below `root` with forward slashes; the file name if both are the same file."""
    return path.name if path == root else path.relative_to(root).as_posix()
