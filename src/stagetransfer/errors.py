"""Bad input, what a disk refuses, and crashes: the line that describes each, and its exit code."""

import errno
import shutil
import sys
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 1000  # characters of a message; a name of 5,000 characters would fill the terminal

_AGAIN = "and run the same command again"
# What a full disk, a disk without permission and a disk without locks answer, and the cure.
_CURES = {
    "ENOSPC EDQUOT EFBIG": f"Free some space, {_AGAIN}",
    "EACCES EPERM EROFS ENOTDIR EISDIR EEXIST ENOTEMPTY ELOOP": (
        f"Give another path or change its permissions, {_AGAIN}"
    ),
    "EIO ESTALE ENXIO ENODEV": f"Check the disk, {_AGAIN}",
    "ENOLCK EOPNOTSUPP ENOTSUP ENOSYS": "Give paths.outputs on a disk whose file locks work",
}
_CURE_OF = {getattr(errno, name): cure for names, cure in _CURES.items() for name in names.split()}


class UserError(Exception):
    """Bad input: one line that names the file or key, says what is wrong and what to do.

    The command line prints the message without a traceback and exits with code 2. Messages quote
    names from files, so control characters are escaped and a long message loses its middle.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@contextmanager
def require_extra(name: str, file: Path | None = None) -> Iterator[None]:
    """Turn a failed import within the block into an error that names the optional dependencies.

    `file` is the file that needs them, if one does.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{f'{file}: ' if file else ''}{error.name}: this Python module is not installed. "
            "Install it with "
            f'pip install "stagetransfer[{name}]"'
        ) from error


def one_line(text: str) -> str:
    """Return a text as one line that cannot control a terminal, of at most `LONGEST` characters."""
    text = "".join(c if is_shown(c) else ascii(c)[1:-1] for c in " ".join(text.splitlines()))
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} ... {text[5 - LONGEST // 2 :]}"


def first_line(error: BaseException) -> str:
    """Return the start of a library's error message without its full stop, or the error's type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]


def is_shown(text: str) -> bool:
    """Return whether a text has only characters that are shown: no line breaks, no escapes."""
    return text.isprintable() or all(
        c.isprintable() or unicodedata.category(c) == "Zs" for c in text
    )


def is_utf8(text: str) -> bool:
    """Return whether a text, such as the name of a file, can be written as UTF-8."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def cause(error: BaseException) -> str:
    """One line that says why something failed; of a crash, also the error's type and its place."""
    text = one_line((str(error).strip() or "no message").splitlines()[0])
    if isinstance(error, UserError):
        return text
    if fault := disk_fault(error):
        return fault
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def disk_fault(error: BaseException | None) -> str | None:
    """Return the line on an error of the disk, its permissions or its locks; None for any other.

    The line names the path and the free space. The error is looked for among the causes too.
    """
    while error is not None and not is_disk_fault(error):
        error = None if isinstance(error, UserError) else error.__cause__
    if not isinstance(error, OSError):
        return None
    path = error.filename2 or error.filename  # of two paths, the second is the one written to
    cure = _CURE_OF.get(error.errno or 0, f"Give a folder for TMPDIR, {_AGAIN}")
    why = "Not a folder" if error.errno == errno.EEXIST else error.strerror
    if path is None:
        return one_line(f"{why}. {cure}.")
    without = " without it" if error.errno == errno.ENOSPC else ""
    return one_line(f"{path}: {why}{_free_space(path, without)}. {cure}.")


def is_disk_fault(error: BaseException) -> bool:
    """Return whether an error comes from the disk, its permissions, its locks or its lack."""
    if not isinstance(error, OSError):
        return False
    # `tempfile` raises ENOENT without a name if there is no folder for temporary files.
    return error.errno in _CURE_OF or (error.errno == errno.ENOENT and error.filename is None)


def _free_space(path: object, without: str) -> str:
    place = Path(str(path)).absolute()
    try:
        while not place.exists():
            place = place.parent
        return f" ({shutil.disk_usage(place).free / 1e6:,.0f} MB free{without})"
    except OSError:
        return ""


def exit_if_known(error: Exception) -> None:
    """End the process with one line: bad input with code 2, an error of the disk with code 1."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        error = UserError(f"{str(error.filename)[:80]}...: the name is too long. Shorten it")
    fault = disk_fault(error)
    if fault or isinstance(error, UserError):
        print(f"error: {fault or error}", file=sys.stderr)
        sys.exit(1 if fault else 2)
