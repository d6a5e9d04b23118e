"""The one error a user can cause and cure."""


class UserError(Exception):
    """Bad input: one line that names the file or key, says what is wrong and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


def cause(error: BaseException) -> str:
    """One line that says why something failed; the error's type too, unless the user caused it."""
    text = (str(error).strip() or "no message").splitlines()[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
