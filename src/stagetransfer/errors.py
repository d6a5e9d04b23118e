"""The one error a user can cause and cure."""


class UserError(Exception):
    """Bad input: one line that names the file or key, says what is wrong and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """
