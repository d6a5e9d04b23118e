"""`stagetransfer pack`: write a large set of images as shards for layout=litdata."""

import os
from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import NEW_FOLDER, LayoutOptions, read_layout
from stagetransfer.errors import UserError


def pack(
    layout: Annotated[
        str, typer.Argument(help="Layout of the data set: imagenet, folder, csv, dtd, ...")
    ],
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="The new folder for the shards.", **NEW_FOLDER)],
    option: LayoutOptions = None,
) -> None:
    """Pack a set of image files into shards, to be streamed from a disk or from object storage."""
    if layout == "embedded":
        raise UserError("layout embedded: its images are no files. Give a layout of image files")
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(root)):
        raise UserError(f"--out {out}: it lies in the data set {root}. Give another folder.")

    from stagetransfer.files import check_is_new
    from stagetransfer.layouts.shards import ABOUT
    from stagetransfer.layouts.write_shards import packed_before, write_packed

    samples = read_layout(layout, root, option or [])
    if (about := packed_before(samples, out)) is None:
        check_is_new(out)
        about = write_packed(samples, root, out)
        state = "packed"
    else:
        state = "complete"
    classes, size = len(about["classes"]), about["bytes"] / 1e9
    typer.echo(
        f"{state:<8}  {about['images']} images of {classes} classes in {about['shards']} shards "
        f"({size:.3g} GB); {about['left_out']} other image files left out"
    )
    typer.echo(f"written   {out / ABOUT}" if state == "packed" else f"{out}: packed before")
