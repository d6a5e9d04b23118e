"""Published and common layouts of labelled image sets on disk, each read into `Samples`.

Every reader of image files takes `max_classes`, to use only the first classes in their order, and
`max_per_class`, to use only so many images of each class and split, evenly spaced.
"""

import functools
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

from stagetransfer.config.instantiate import signature_of, with_booleans
from stagetransfer.errors import UserError
from stagetransfer.layouts.csv_table import read_csv
from stagetransfer.layouts.folders import read_folder, read_imagenet
from stagetransfer.layouts.image_check import check_images
from stagetransfer.layouts.published_sets import read_curet, read_dld, read_dtd, read_kth_tips
from stagetransfer.layouts.samples import Samples
from stagetransfer.layouts.shards import read_packed

__all__ = ["LAYOUTS", "TREES", "check_images", "check_options", "read"]

LAYOUTS: dict[str, Callable[..., Samples]] = {
    "folder": read_folder,
    "imagenet": read_imagenet,
    "curet": read_curet,
    "dtd": read_dtd,
    "kth_tips": read_kth_tips,
    "csv": read_csv,
    "dld": read_dld,
    "litdata": read_packed,
}

TREES = ("folder", "imagenet")
"""Layouts that only depend on which files lie in which folders, not on the content of a file."""

# Types in the hints of readers: the class whose instances are accepted, and its name in messages.
_TYPES: dict[object, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    NoneType: (NoneType, "null"),
}


def read(layout: str, root: Path, **options: object) -> Samples:
    """Return the images below `root`, read by a layout in `LAYOUTS` with these keywords.

    Images are paths that are not opened yet (see `check_images`). Their ids are the paths below
    `root` with forward slashes, and the samples are sorted by id. Hidden files are left out.
    UserError if there is no such option, or the folder is not of this layout.
    """
    reader = functools.partial(LAYOUTS[layout], root)
    return reader(**check_options(reader, options, f"layout {layout}: options"))


def check_options(
    reader: Callable[..., Samples], options: Mapping[str, Any], key: str
) -> dict[str, Any]:
    """Return the reader's keywords; UserError, which begins with `key`, if it does not take them.

    Values are compared with type hints of the types in `_TYPES`. Words such as "no" are booleans.
    """

    def fits(value: object, accepted: type) -> bool:
        # Python's True is a number, too.
        return isinstance(value, accepted) and (accepted is bool or not isinstance(value, bool))

    signature = signature_of(reader)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise UserError(f"{key}: {error}; there are {', '.join(signature.parameters)}") from error
    options = with_booleans(signature, options, key)
    for name, value in options.items():
        hint = signature.parameters[name].annotation if name in signature.parameters else None
        types = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        known = [_TYPES[one] for one in types if one in _TYPES]
        if len(known) == len(types) and not any(fits(value, accepted) for accepted, _ in known):
            kinds = " or ".join(kind for _, kind in known)
            raise UserError(f"{key}.{name}={value}: must be {kinds}. Give another value.")
    return options
