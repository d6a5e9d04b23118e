"""Published and common layouts of labelled image sets on disk, each read into `Samples`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from stagetransfer.data.layouts.csv_table import read_csv
from stagetransfer.data.layouts.dld import read_dld
from stagetransfer.data.layouts.folders import read_folder, read_imagenet
from stagetransfer.data.layouts.image_check import check_images
from stagetransfer.data.layouts.texture_sets import read_curet, read_dtd, read_kth_tips
from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError

__all__ = [
    "LAYOUTS",
    "TREES",
    "check_images",
    "read",
    "read_csv",
    "read_curet",
    "read_dld",
    "read_dtd",
    "read_folder",
    "read_imagenet",
    "read_kth_tips",
]

LAYOUTS: dict[str, Callable[..., Samples]] = {
    "folder": read_folder,
    "imagenet": read_imagenet,
    "curet": read_curet,
    "dtd": read_dtd,
    "kth_tips": read_kth_tips,
    "csv": read_csv,
    "dld": read_dld,
}

TREES = ("folder", "imagenet")
"""The layouts that read nothing but which files lie in which folders."""


def read(layout: str, root: Path, **options: object) -> Samples:
    """The images below `root`, read by the layout of this name.

    Images are paths, not yet opened (see `check_images`); ids are the paths below `root` with
    forward slashes, and the samples stand in their order. Hidden files are the system's and are
    left out.

    Args:
        layout: one of `LAYOUTS`.
        options: what the layout's reader takes.

    Raises:
        UserError: no such layout or option, or the folder isn't of this layout.
    """
    if layout not in LAYOUTS:
        raise UserError(f"layout={layout}: none of {', '.join(LAYOUTS)}")
    signature = inspect.signature(LAYOUTS[layout])
    try:
        signature.bind(root, **options)
    except TypeError as error:
        known = ", ".join(list(signature.parameters)[1:])
        raise UserError(f"layout {layout}: {error}; its options are {known}") from error
    return LAYOUTS[layout](root, **options)
