"""Published and common layouts of labelled image sets on disk, each read into `Samples`.

Every reader takes `max_classes`, the number of classes to use (the first ones in their order), and
`max_per_class`, the number of images of each class and split to use, evenly spaced.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stagetransfer.data.layouts.csv_table import read_csv
from stagetransfer.data.layouts.dld import read_dld
from stagetransfer.data.layouts.folders import read_folder, read_imagenet
from stagetransfer.data.layouts.image_check import check_images
from stagetransfer.data.layouts.texture_sets import read_curet, read_dtd, read_kth_tips
from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError

__all__ = ["LAYOUTS", "TREES", "check_images", "check_options", "read"]

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
"""Layouts that only depend on which files lie in which folders, not on the content of a file."""


def read(layout: str, root: Path, **options: object) -> Samples:
    """Return the images below `root`, read by the layout of this name.

    Images are paths that are not opened yet (see `check_images`). Their ids are the paths below
    `root` with forward slashes, and the samples are sorted by id. Hidden files are left out.

    Args:
        layout: one of `LAYOUTS`.
        options: keywords of the layout's reader.

    Raises:
        UserError: there is no such layout or option, or the folder is not of this layout.
    """
    if layout not in LAYOUTS:
        raise UserError(f"layout={layout}: none of {', '.join(LAYOUTS)}")
    reader = functools.partial(LAYOUTS[layout], root)
    check_options(reader, options, f"layout {layout}")
    return reader(**options)


def check_options(reader: Callable[..., Samples], options: Mapping[str, Any], key: str) -> None:
    """Check that the reader takes these keywords, before anything is read.

    Raises:
        UserError: it does not; the message begins with `key`.
    """
    signature = inspect.signature(reader)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise UserError(f"{key}: {error}; there are {', '.join(signature.parameters)}") from error
