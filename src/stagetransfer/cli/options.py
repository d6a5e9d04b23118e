"""Options that several commands share, and their checks."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from stagetransfer.errors import UserError, is_shown
from stagetransfer.files import check_can_be_folder


def check_folders(paths: Any) -> Any:
    """Return the path or paths, or raise UserError at once, before anything heavy is imported."""
    for path in paths if isinstance(paths, list) else [paths]:
        if not path.exists():
            raise UserError(
                f"{path}: no such folder. Give run folders, runs/ or an outputs folder."
            )
    return paths


def new_folder(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of a folder to write, or raise UserError if there can be none."""
    if path is not None:
        check_can_be_folder(path, param.opts[0])
    return path


def new_file(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of a file to write, or raise UserError if there can be none."""
    if path is not None:
        check_can_be_folder(path.absolute().parent, param.opts[0])
        if not is_shown(str(path)) or (os.path.exists(path) and not os.path.isfile(path)):
            raise UserError(f"{param.opts[0]} {path}: no file can have this name. Give another.")
    return path


def existing(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of what is read, or raise UserError if it does not exist."""
    if path is not None and not path.exists():
        raise UserError(f"{param.opts[0]} {path}: no such file or folder. Correct the path.")
    return path


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
ResampleCount = Annotated[
    int, typer.Option(min=100, max=100_000, help="Number of bootstrap resamples.")
]


def condition_names(text: str | None) -> list[str]:
    """Return the names in a comma-separated list; empty for None."""
    names = [name.strip() for name in (text or "").split(",")]
    return [name for name in names if name]
