"""Objects that a config names: `_target_` and keywords, through Hydra's own instantiate."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from stagetransfer.errors import UserError


def partial_of(target: Mapping[str, Any], key: str) -> functools.partial[Any]:
    """The callable that `target` names, with its keywords bound.

    Raises:
        UserError: there is no such thing, or it takes no such keyword; `key` is where the config
            says it.
    """
    if "_target_" not in target:
        raise UserError(f"{key}._target_ is required: the full name of a class or function")
    try:
        made = instantiate({**target, "_partial_": True})
    except InstantiationException as error:
        raise UserError(f"{key}: {str(error).splitlines()[0]}") from error
    partial = cast("functools.partial[Any]", made)
    try:
        inspect.signature(partial.func).bind_partial(**partial.keywords)
    except TypeError as error:
        raise UserError(f"{key}: {target['_target_']} {error}; ~{key}.<name> drops it") from error
    return partial
