"""From plain mappings to the typed dataclasses of the schema, with an error that names the key.

RANGES says which numbers a setting may have, by its name in the schema.
"""

import difflib
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagetransfer.errors import UserError

T = TypeVar("T")


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


def first_line(error: Exception) -> str:
    """Return the first line of an error's message; OmegaConf adds details below it."""
    return str(error).splitlines()[0]


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


CHECKED = (".lr", ".weight_decay")  # of the optimiser, by `validate_config`
MOST = 1e9  # the greatest size of a number without a range of its own
RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("seed", "source_seed", "split_seed"), (0, 2**63 - 1)),
    **dict.fromkeys(("epochs", "batch_size", "patience", "check_val_every_n_epoch"), (1, MOST)),
    **dict.fromkeys(("max_steps", "accumulate_grad_batches"), (1, MOST)),
    **dict.fromkeys(("min_steps", "min_epochs", "log_every_n_steps", "probe_epochs"), (0, MOST)),
    **dict.fromkeys(("reload_dataloaders_every_n_epochs", "fast_dev_run", "fold"), (0, MOST)),
    **dict.fromkeys(("memory_limit_gib", "device_memory_limit_gib"), (0, MOST)),
    **dict.fromkeys(("frozen_features_gib", "bias_rate"), (0, MOST)),
    **dict.fromkeys(("ratio", "dropout", "label_smoothing", "crop", "confounder"), (0, 1)),
    **dict.fromkeys(("validation_share", "test_share"), (0, 1)),
    "checkpoint_every_minutes": (0.01, MOST),
    "num_sanity_val_steps": (-1, MOST),  # -1: all
    "devices": (1, 1024),
    "input_size": (1, 1024),  # above, AlexNet would have more than 4 GiB
    "rate_decay": (0, 1),
    "search_rates": (-math.inf, math.inf),  # have a check of their own
    "std": (1e-6, MOST),
    "test_copies": (1, 10_000),
    "workers": (0, 1024),
}
FREE = ("callbacks", "logger")  # a user's own class may take any number
BATCHES = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
TIMES = ("max_time", "val_check_interval")
TIME = "a time as days:hours:minutes:seconds, such as 00:08:00:00"


def check_ranges(settings: Any, key_of: Mapping[str, str]) -> None:
    """Raise UserError if a number of a schema's instance is not finite or out of its range.

    Args:
        key_of: the key of the config that each field has its value from, for messages.
    """
    for name in (one.name for one in fields(settings)):
        value, key = getattr(settings, name), key_of[name]
        if name in (*BATCHES, *TIMES, "overfit_batches", "fast_dev_run") and value is not None:
            _check_batches(name, value, key)
        most = sys.float_info.max if isinstance(value, Mapping) else MOST
        least, greatest = RANGES.get(name, (-most, most))
        for place, number in _numbers(value) if name not in FREE else ():
            if not least <= number <= greatest and place not in CHECKED:
                legal = f"from {least:g} to {greatest:g}" if name in RANGES else "finite, smaller"
                where = f"{key}{place}={number}"
                raise UserError(f"{where}: a number must be {legal}. Give another value.")


def _check_batches(name: str, value: object, key: str) -> None:
    """Raise UserError unless the value is a number of batches, a share of them, or a time."""
    if name in TIMES and isinstance(value, str) and re.fullmatch(r"\d\d(:\d\d){3}", value):
        return
    legal = isinstance(value, int) and (name == "fast_dev_run" or not isinstance(value, bool))
    text = "a number of batches"
    if name == "max_time":
        legal, text = False, TIME
    elif name != "fast_dev_run":
        legal = legal or (isinstance(value, float) and 0 <= value <= 1)
        text += " or a share of them"
        legal = legal and (name == "overfit_batches" or bool(value))
    if not legal or cast(float, value) < 0:
        raise UserError(f"{key}={value}: it must be {text}. Give another value, or null.")


def _numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in a value with their places. A huge integer counts as infinite."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _numbers(one, f"{place}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one, place)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value if isinstance(value, float) or abs(value) < 2**63 else math.inf
