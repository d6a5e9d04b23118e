"""Options that several commands share, and their checks."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stagetransfer.errors import UserError, is_shown
from stagetransfer.files import check_can_be_folder

if TYPE_CHECKING:
    from stagetransfer.layouts.samples import Samples
    from stagetransfer.runs import Gathered


def existing_folders(paths: Any) -> Any:
    """Return the path or paths, or raise UserError at once, before anything heavy is imported."""
    for path in paths if isinstance(paths, list) else [paths]:
        if not path.exists():
            raise UserError(
                f"{path}: no such folder. Give run folders, runs/ or an outputs folder."
            )
    return paths


def not_empty(text: str | Path) -> Path:
    """Return a path; UserError for an empty text, which would be the current folder."""
    if not str(text).strip():
        raise UserError("a path is empty, perhaps an unset variable. Give the path of a folder.")
    return Path(text)


def new_folder(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of a folder to write, or raise UserError if there can be none."""
    if path is not None:
        check_can_be_folder(path, param.opts[0])
    return path


NEW_FOLDER: dict[str, Any] = {
    "callback": new_folder, "parser": not_empty, "metavar": "<path>"
}  # fmt: skip
"""Arguments of a typer option or argument for a folder to write."""


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
    return typer.Argument(help=help_text, callback=existing_folders, **options)


def out_folder(default: str) -> Any:
    """Return a typer option for the folder to write, whose default is described."""
    text = f"Folder to write. Default: {default}."
    return typer.Option(help=text, **NEW_FOLDER)


RunPaths = Annotated[
    list[Path],
    run_argument("Run folders, runs/ folders, outputs folders or sweep folders; may be mixed."),
]
OnlySettings = Annotated[
    list[str] | None,
    typer.Option(
        help="Use only runs with this setting in config.yaml (KEY=VALUE), or of one data set "
        "(data_set=NAME). May be repeated."
    ),
]
AskedConditions = Annotated[
    list[str] | None,
    typer.Option(
        "--conditions",
        help="Compare only these conditions, such as scratch,two_stage. Holm's correction then "
        "counts their pairs. Default: all conditions that are found.",
    ),
]
ResampleCount = Annotated[
    int, typer.Option(min=100, max=100_000, help="Number of bootstrap resamples.")
]

LayoutOptions = Annotated[
    list[str] | None,
    typer.Option(
        help="Option of the layout (KEY=VALUE), as in domain.<name>.options. May be repeated."
    ),
]

Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda or cuda:N. auto uses a GPU if there is one.")
]


def available_device(name: str) -> str:
    """Return the device that --device names; UserError if this machine does not have it."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {name}: not available here. Use auto to choose an available device"
        ) from error
    return name


def condition_names(lists: Sequence[str] | None) -> list[str]:
    """Return the names in comma-separated lists; empty for None. UserError if they hold none."""
    names = [name.strip() for name in ",".join(lists or ()).split(",")]
    if lists and not any(names):
        raise UserError("--conditions: no name is given. Name conditions, or leave it out.")
    return [name for name in names if name]


def write_each_data_set(
    write: Callable[["Gathered", Path], list[str]],
    runs: Sequence[Path],
    out: Path | None,
    name: str,
    only: Sequence[str] | None,
    conditions: Sequence[str] | None = None,
) -> None:
    """Print the lines that `write` returns for the runs of each data set; see `runs.write_each`."""
    from stagetransfer.runs.gather import write_each

    def show(found: "Gathered", folder: Path) -> None:
        lines = write(found, folder)
        typer.echo("\n".join([f"data set {found.data_set}"] * bool(found.data_set) + lines))

    asked = condition_names(conditions)
    write_each(show, runs, out, name, only=only or (), conditions=asked)


def finished_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the folders of the finished runs at `paths`; print which others are left out.

    UserError if none is finished.
    """
    from stagetransfer.runs.reader import find_runs, is_finished

    folders = find_runs(paths)
    if not (finished := [folder for folder in folders if is_finished(folder)]):
        raise UserError(f"{paths[0]}: no finished run (no metrics.json). See outputs/runs.")
    for folder in folders:
        if folder not in finished:
            typer.echo(f"left out: {folder.name} is unfinished", err=True)
    return finished


def choose_run(paths: Sequence[Path], latest: bool) -> Path:
    """Return the folder of the one finished run at `paths`, or of the latest of several."""
    from stagetransfer.runs.reader import read_runs

    finished = finished_folders(paths)
    if latest or len(finished) == 1:
        return max(finished, key=lambda folder: (folder / "metrics.json").stat().st_mtime)
    configs = {run.name: run.config for run in read_runs(finished)[0]}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    unlike = [key for key in keys if len({str(x.get(key)) for x in configs.values()}) > 1][:4]
    shown = [
        f"{name} ({', '.join(f'{key}={config.get(key)}' for key in unlike)})"
        for name, config in list(configs.items())[:6]
    ]
    raise UserError(
        f"{paths[0]}: {len(configs)} finished runs. Give one, or --latest for the one that "
        f"finished last: {'; '.join(shown)}{'; ...' * (len(configs) > 6)}"
    )


def read_layout(layout: str, root: Path | None, options: Sequence[str]) -> "Samples":
    """Return the images that these words of a command name; options are KEY=VALUE."""
    import yaml

    from stagetransfer import layouts

    given: dict[str, object] = {}
    for text in options:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {text}: must be KEY=VALUE, as in table=labels.csv")
        if key in given:
            raise UserError(f"--option {text}: {key} is given twice. Give it once.")
        try:
            given[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"--option {text}: the value cannot be read. Put it in quotes."
            ) from error
    if layout == "embedded":
        if root is not None:
            raise UserError(f"layout embedded has no folder: leave {root} out")
        from stagetransfer.data import TargetDataModule

        generator = TargetDataModule.generator
        return generator(**layouts.check_options(generator, given, "layout embedded: options"))
    if layout not in layouts.LAYOUTS:
        raise UserError(f"{layout}: no layout; there are embedded, {', '.join(layouts.LAYOUTS)}")
    if root is None:
        raise UserError(f"layout {layout}: give the data set's folder too")
    return layouts.read(layout, root, **given)
