"""The one error a user can cause and cure, and the line that describes any other."""

import traceback
import unicodedata
from pathlib import Path

LONGEST = 1000  # characters of a message; a name of 5,000 characters would fill the terminal


class UserError(Exception):
    """Bad input: one line that names the file or key, says what is wrong and what to do.

    The command line prints the message without a traceback and exits with code 2. Messages quote
    names from files, so control characters are escaped and a long message loses its middle.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Return a text as one line that cannot control a terminal, of at most `LONGEST` characters."""
    text = "".join(c if is_shown(c) else ascii(c)[1:-1] for c in " ".join(text.splitlines()))
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} ... {text[5 - LONGEST // 2 :]}"


def is_shown(text: str) -> bool:
    """Return whether a text has only characters that are shown: no line breaks, no escapes."""
    return text.isprintable() or all(
        c.isprintable() or unicodedata.category(c) == "Zs" for c in text
    )


def cause(error: BaseException) -> str:
    """One line that says why something failed; of a crash, also the error's type and its place."""
    text = one_line((str(error).strip() or "no message").splitlines()[0])
    if isinstance(error, UserError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"
