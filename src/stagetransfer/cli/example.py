"""`stagetransfer example`: a tiny generated set in the layout of a published task."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import new_folder


def example(
    task: Annotated[str, typer.Argument(help="The task: polyp, frames, embolism or boundary.")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the set.", callback=new_folder)],
) -> None:
    """Write a tiny data set whose layout you can copy, and print the command to train on it."""
    from stagetransfer.synthetic.example_tasks import TASKS, write_example

    write_example(task, folder)
    words = (word.format(root=folder) for word in TASKS[task].overrides)
    asked = " ".join(f'"{word}"' if "'" in word or "[" in word else word for word in words)
    typer.echo(f"written  {folder}: {TASKS[task].about}")
    typer.echo(f"train    python train.py +experiment=scratch {asked}")
