"""The installed command `stagetransfer`: all that works on finished runs and on CT series."""

from __future__ import annotations

import sys

import typer

from stagetransfer.cli.board import board
from stagetransfer.cli.convergence import convergence
from stagetransfer.cli.example import example
from stagetransfer.cli.export import export
from stagetransfer.cli.extract import extract
from stagetransfer.cli.froc import froc
from stagetransfer.cli.phantom import phantom
from stagetransfer.cli.predict import predict
from stagetransfer.cli.report import report
from stagetransfer.cli.roc import roc
from stagetransfer.cli.split import split
from stagetransfer.cli.visualize import visualize
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


app.command()(board)
app.command()(report)
app.command()(visualize)
app.command()(roc)
app.command()(froc)
app.command()(convergence)
app.command()(extract)
app.command()(split)
app.command()(predict)
app.command()(phantom)
app.command()(example)
app.command()(export)


def main() -> None:
    """The entry point: bad input ends with one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
