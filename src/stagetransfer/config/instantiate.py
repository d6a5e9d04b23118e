"""Objects that a config names by `_target_` and keywords, through Hydra's own instantiate."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from stagetransfer.errors import UserError


def partial_of(target: Mapping[str, Any], key: str) -> functools.partial[Any]:
    """Return the class or function that `target` names, with its keywords bound.

    Keywords are data: a `_target_` within them is not followed.

    Args:
        target: `_target_` and keywords.
        key: where the config holds it, for messages.

    Raises:
        UserError: there is no such class or function, or it does not take one of the keywords.
    """
    if "_target_" not in target:
        raise UserError(f"{key}._target_ is required: the full name of a class or function")
    try:
        fixed = {"_partial_": True, "_convert_": "all", "_recursive_": False}
        made = instantiate({**target, **fixed})
    except InstantiationException as error:
        raise UserError(f"{key}: {str(error).splitlines()[0]}") from error
    partial = cast("functools.partial[Any]", made)
    try:
        inspect.signature(partial.func).bind_partial(**partial.keywords)
    except (TypeError, ValueError) as error:  # ValueError: of C code without a signature
        raise UserError(
            f"{key}: {target['_target_']} {error}. Remove the keyword with ~{key}.<name>"
        ) from error
    return partial
