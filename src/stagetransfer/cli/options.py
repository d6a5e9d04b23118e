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
AskedConditions = Annotated[
    str | None,
    typer.Option(
        "--conditions",
        help="Compare only these conditions, as in scratch,two_stage. Holm's correction is then "
        "over their pairs. Default: all that are found.",
    ),
]
ResampleCount = Annotated[int, typer.Option(min=100, help="Number of bootstrap resamples.")]


def condition_names(text: str | None) -> list[str]:
    """Return the names in a comma-separated list; empty for None."""
    names = [name.strip() for name in (text or "").split(",")]
    return [name for name in names if name]
