"""`stagetransfer board`: a folder for TensorBoard that compares finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import run_argument


def board(outputs: Annotated[Path, run_argument("An outputs folder or a runs folder.")]) -> None:
    """Compare finished runs in TensorBoard: HParams, confusion matrices and Figure 5."""
    from stagetransfer.reporting.tensorboard_board import commands, write_board

    for folder in write_board(outputs):
        typer.echo(commands(folder))
