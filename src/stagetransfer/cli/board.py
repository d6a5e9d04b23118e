"""`stagetransfer board`: a sweep's finished runs in, a folder for TensorBoard out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def board(
    outputs: Annotated[Path, typer.Argument(help="An outputs or runs folder.")],
) -> None:
    """Compares finished runs in TensorBoard: HParams, confusion matrices, Figure 5."""
    from stagetransfer.reporting.tensorboard_board import write_board

    folder = write_board(outputs)
    typer.echo(f"board  tensorboard --logdir {folder}")
