"""The installed command `stagetransfer`: all that works on finished runs and on CT series."""

from __future__ import annotations

import sys

import typer

from stagetransfer.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def stagetransfer() -> None:
    """Does another source domain help? Reports and pictures of runs that train.py left."""


def main() -> None:
    """The entry point: bad input ends with one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
