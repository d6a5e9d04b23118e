"""Options that several commands share, from their text."""

from pathlib import Path
from typing import Annotated

import typer

RunPaths = Annotated[
    list[Path], typer.Argument(help="Run folders, runs/ folders, outputs or sweep folders, mixed.")
]
OnlySettings = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE of config.yaml that a run must have; may be repeated."),
]
ResampleCount = Annotated[int, typer.Option(min=100, help="Number of bootstrap resamples.")]
