"""`stagetransfer import`: the predictions of another model, as a run that can be compared."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import existing


def import_run(
    predictions: Annotated[
        Path,
        typer.Argument(help="CSV with id and p_<class> of the test images.", callback=existing),
    ],
    like: Annotated[
        Path,
        typer.Option(help="Finished run of the same target, ratio and split.", callback=existing),
    ],
    validation: Annotated[
        Path | None,
        typer.Option(help="The same of the validation images. (default: none)", callback=existing),
    ] = None,
    condition: Annotated[str, typer.Option(help="A name for these predictions.")] = "imported",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of their training. (default: as --like)")
    ] = None,
) -> None:
    """Make a run of another model's predictions: report, roc and ensemble then compare it."""
    from stagetransfer.runs.imported import import_run as write

    typer.echo(f"written  {write(predictions, validation, like, condition, seed)}")
