"""The installed command `stagetransfer` and its subcommands."""

import sys
from typing import Annotated, Any, NoReturn

import typer

from stagetransfer import __version__
from stagetransfer.cli.advise import advise
from stagetransfer.cli.board import board
from stagetransfer.cli.convergence import convergence
from stagetransfer.cli.ensemble import ensemble
from stagetransfer.cli.example import example
from stagetransfer.cli.export import export
from stagetransfer.cli.extract import extract
from stagetransfer.cli.froc import froc
from stagetransfer.cli.import_run import import_run
from stagetransfer.cli.interruption import interruptible
from stagetransfer.cli.pack import pack
from stagetransfer.cli.phantom import phantom
from stagetransfer.cli.predict import predict
from stagetransfer.cli.report import report
from stagetransfer.cli.roc import roc
from stagetransfer.cli.serve import serve
from stagetransfer.cli.split import split
from stagetransfer.cli.stress import stress
from stagetransfer.cli.visualize import visualize
from stagetransfer.errors import exit_if_known, one_line

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, context_settings=HELP)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stagetransfer {__version__}")
        raise typer.Exit


@app.callback()
def stagetransfer(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Does another source domain help? Train chains of domains, and compare finished runs."""


# Hydra reads everything after `train`, its flags (--help, -m, --cfg) included.
@app.command(
    add_help_option=False,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def train(context: typer.Context) -> None:
    """Train a chain, such as +experiment=two_stage. With -m, start a sweep. See train --help."""
    from stagetransfer.cli.train import train as run_hydra

    run_hydra(context.args)


for command in (
    advise, ensemble, report, serve, visualize, board, roc, froc, convergence, stress, predict,
    export, split, pack, extract, phantom, example,
):  # fmt: skip
    app.command()(command)
app.command("import")(import_run)


def main() -> None:
    """Run the command. Bad input ends with one line and code 2, a full disk with one and 1."""
    try:
        with interruptible("No unfinished file is left behind; run the command again."):
            sys.exit(app(standalone_mode=False))
    except Exception as error:
        exit_if_known(error)
        if not hasattr(error, "format_message"):
            raise
        _refuse_usage(error)  # typer has its own copies of click's exceptions, or click's own


def _refuse_usage(error: Any) -> NoReturn:
    """End the process with what typer says about the words of the command, in one line."""
    context = error.ctx
    if len(sys.argv) == 1:  # the message is the help
        error.show()
    else:
        line = one_line(error.format_message())
        line += "" if line.endswith((".", "?")) else "."
        more = f" See {context.command_path} --help." if context else ""
        print(f"error: {line}{more}", file=sys.stderr)
    sys.exit(error.exit_code)
