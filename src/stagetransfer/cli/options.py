"""Options that several commands share, and their checks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stagetransfer.errors import UserError


def check_folders(paths: Any) -> Any:
    """Return the path or paths, or raise UserError at once, before anything heavy is imported."""
    for path in paths if isinstance(paths, list) else [paths]:
        if not path.exists():
            raise UserError(
                f"{path}: no such folder. Give run folders, runs/ or an outputs folder."
            )
    return paths


def run_argument(help_text: str, **options: Any) -> Any:
    """Return a typer argument for one or more existing folders of runs."""
    return typer.Argument(help=help_text, callback=check_folders, **options)


RunPaths = Annotated[
    list[Path], run_argument("Run folders, runs/ folders, outputs or sweep folders, mixed.")
]
OnlySettings = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE of config.yaml that a run must have; may be repeated."),
]
ResampleCount = Annotated[int, typer.Option(min=100, help="Number of bootstrap resamples.")]
