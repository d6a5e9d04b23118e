"""The one error a user can cause and cure, and the line that describes any other."""

import traceback
from pathlib import Path


class UserError(Exception):
    """Bad input: one line that names the file or key, says what is wrong and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


def cause(error: BaseException) -> str:
    """One line that says why something failed; of a crash, also the error's type and its place."""
    text = (str(error).strip() or "no message").splitlines()[0]
    if isinstance(error, UserError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"
