"""The installed command `stagetransfer`: all that works on finished runs and on CT series."""

from __future__ import annotations

import sys

import typer

from stagetransfer.commands.board import board
from stagetransfer.commands.convergence import convergence
from stagetransfer.commands.example import example
from stagetransfer.commands.export import export
from stagetransfer.commands.extract import extract
from stagetransfer.commands.froc import froc
from stagetransfer.commands.phantom import phantom
from stagetransfer.commands.predict import predict
from stagetransfer.commands.report import report
from stagetransfer.commands.roc import roc
from stagetransfer.commands.split import split
from stagetransfer.commands.visualize import visualize
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
