"""Which numbers a setting may have, by its name in the schema. `typed` checks every setting."""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, cast

from stagetransfer.errors import UserError

CHECKED = (".lr", ".weight_decay")  # of the optimiser, by `validate_config`
MOST = 1e9  # the greatest size of a number without a range of its own
RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("seed", "source_seed", "split_seed"), (0, 2**63 - 1)),
    **dict.fromkeys(("epochs", "batch_size", "patience", "check_val_every_n_epoch"), (1, MOST)),
    **dict.fromkeys(("max_steps", "accumulate_grad_batches"), (1, MOST)),
    **dict.fromkeys(("min_steps", "min_epochs", "log_every_n_steps", "probe_epochs"), (0, MOST)),
    **dict.fromkeys(("reload_dataloaders_every_n_epochs", "fast_dev_run", "fold"), (0, MOST)),
    **dict.fromkeys(("memory_limit_gib", "device_memory_limit_gib"), (0, MOST)),
    **dict.fromkeys(("disk_limit_gib", "frozen_features_gib", "bias_rate"), (0, MOST)),
    **dict.fromkeys(("ratio", "dropout", "label_smoothing", "crop", "confounder"), (0, 1)),
    **dict.fromkeys(("validation_share", "test_share", "label_noise", "long_tail"), (0, 1)),
    "checkpoint_pause_minutes": (0, MOST),
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
