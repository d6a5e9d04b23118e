"""From plain mappings to the typed dataclasses of the schema, with an error that names the key."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagetransfer.config.ranges import check_ranges
from stagetransfer.errors import UserError, first_line

T = TypeVar("T")

# Arguments of Lightning's Trainer, and the keys here that take their place: each stage can have a
# value of its own.
INSTEAD = {
    "trainer.gradient_clip_val": "recipe.gradient_clip_norm",
    "trainer.max_epochs": "recipe.epochs",
}


def typed(schema: type[T], *parts: tuple[str, Mapping[str, Any]]) -> T:
    """Merge the parts, each with the key under which it stands, into an instance of the schema.

    A part that names another `_target_` replaces the keywords of the one before. UserError if a key
    is unknown or missing, or a value is of the wrong type or out of its range.
    """
    result = OmegaConf.structured(schema)
    for key, part in parts:
        refuse_unknown(part, schema, key)
        for name, value in part.items():
            before = OmegaConf.select(result, name, throw_on_missing=False)
            target = value.get("_target_") if isinstance(value, Mapping) else None
            if target and isinstance(before, DictConfig) and target != before.get("_target_"):
                result[name] = {}
        try:
            result = OmegaConf.merge(result, dict(part))
        except OmegaConfBaseException as error:
            raise UserError(f"{_join(key, error.full_key)}: {first_line(error)}") from error
    for one in fields(cast(Any, schema)):
        if OmegaConf.is_missing(result, one.name):
            raise required(_join(parts[0][0], one.name))
    made = cast(T, OmegaConf.to_object(result))
    keys = {name: _join(key, name) for key, part in parts for name in part}
    check_ranges(
        made, {one.name: _join(parts[0][0], one.name) for one in fields(cast(Any, schema))} | keys
    )
    return made


def as_boolean(value: object, key: str, other: str = "") -> bool:
    """Return True or False for a value that the command line or YAML writes as a boolean.

    UserError if it is none of true, false, yes, no, on and off; `other` names what else is legal.
    """
    if isinstance(value, str):
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        value = words.get(value.lower(), value)
    if not isinstance(value, bool):
        raise UserError(f"{key}={value}: must be true or false{other}. Give another value.")
    return value


def refuse_unknown(part: Mapping[str, Any], schema: type, key: str) -> None:
    """Raise UserError if a name of `part` is no field of the schema."""
    names = [one.name for one in fields(cast(Any, schema))]
    for name in part:
        if name not in names and name != "hydra":
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f"Did you mean {near[0]}?" if near else f"The keys are {', '.join(names)}"
            if other := INSTEAD.get(_join(key, name)):
                hint = f"Use {other}"
            raise UserError(f"{_join(key, name)}: no such key. {hint}")


def refuse_nested(part: Any, key: str = "", within: str = "") -> None:
    """Raise UserError if a `_target_` stands among the keywords of another: these are data."""
    items: Iterable[tuple[object, Any]] = part.items() if isinstance(part, Mapping) else ()
    if isinstance(part, list):
        items = enumerate(part)
    outer = key if isinstance(part, Mapping) and "_target_" in part else within
    if within and outer != within:
        raise UserError(
            f"{key}._target_: not allowed among the keywords of {within}, which are plain values. "
            "Remove it; a class of your own can build what it needs"
        )
    for name, value in items:
        refuse_nested(value, _join(key, name), outer)


def required(key: str) -> UserError:
    """Return the error that a key has no value."""
    return UserError(f"{key} is required: give it as {key}=...")


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
