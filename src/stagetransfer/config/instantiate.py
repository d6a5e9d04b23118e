"""Objects that a config names by `_target_` and keywords, through Hydra's own instantiate."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, cast, get_args

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from stagetransfer.config.typed import as_boolean
from stagetransfer.errors import UserError, first_line


def partial_of(target: Mapping[str, Any], key: str) -> functools.partial[Any]:
    """Return the class or function that `target` names, with its keywords bound.

    Keywords are data: a `_target_` within them is not followed. UserError if there is no such class
    or function, or it does not take one of the keywords. `target` has `_target_` and keywords;
    `key` is where the config holds it, for messages.
    """
    if "_target_" not in target:
        raise UserError(f"{key}._target_ is required: the full name of a class or function")
    try:
        fixed = {"_partial_": True, "_convert_": "all", "_recursive_": False}
        made = instantiate({**target, **fixed})
    except InstantiationException as error:
        raise UserError(f"{key}: {first_line(error)}") from error
    partial = cast("functools.partial[Any]", made)
    try:
        signature = signature_of(partial.func)
        signature.bind_partial(**partial.keywords)
    except (TypeError, ValueError) as error:  # ValueError: of C code without a signature
        raise UserError(
            f"{key}: {target['_target_']} {error}. Remove the keyword with ~{key}.<name>"
        ) from error
    return functools.partial(partial.func, **with_booleans(signature, partial.keywords, key))


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, with annotations that are types where these can be found."""
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, TypeError):  # such as types only imported to check types
        return inspect.signature(function)


def with_booleans(
    signature: inspect.Signature, keywords: Mapping[str, Any], key: str
) -> dict[str, Any]:
    """Return the keywords with True or False for words such as "no", where a boolean is expected.

    "no" would otherwise count as true. UserError, which begins with `key`, for any other word.
    """
    result = dict(keywords)
    for name, value in keywords.items():
        if isinstance(value, str) and (known := signature.parameters.get(name)):
            hint = known.annotation
            if hint is inspect.Parameter.empty:
                hint = type(known.default)
            if ({*get_args(hint)} - {NoneType} or {hint}) <= {bool, "bool"}:
                result[name] = as_boolean(value, f"{key}.{name}")
    return result
