"""`stagetransfer import`: the predictions of another model, as a run that can be compared."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import existing


def import_run(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns id and p_<class>, one row per test image.", callback=existing
        ),
    ],
    like: Annotated[
        Path,
        typer.Option(
            help="A finished run with the same target, ratio and split.", callback=existing
        ),
    ],
    validation: Annotated[
        Path | None,
        typer.Option(
            help="The same table for the validation images. (default: none)", callback=existing
        ),
    ] = None,
    condition: Annotated[str, typer.Option(help="Name of the new condition.")] = "imported",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the training of the other model. (default: as --like)"),
    ] = None,
) -> None:
    """Turn the predictions of another model into a run for report, roc and ensemble."""
    from stagetransfer.runs.imported import import_run as write

    typer.echo(f"written  {write(predictions, validation, like, condition, seed)}")
