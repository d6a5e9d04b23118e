"""Which values a setting may have, by its name in the schema. `typed` checks every setting."""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from stagetransfer.errors import UserError
from stagetransfer.names import METRICS, VARIANTS

CHOICES: Mapping[str, tuple[str, ...]] = {
    "balance": ("none", "sampling", "downsample", "loss"),
    "confounder_kind": ("mark", "frequency", "noise"),
    "confounder_test": ("reversed", "absent", "same"),
    "fit": ("crop", "stretch"),
    "keep": ("best", "head", "none"),
    "library": ("alexnet", "torchvision", "timm"),
    "mode": ("full", "frozen"),
    "monitor": (*METRICS, "last"),
    "precision": ("auto", "fast", "32-true", "bf16-mixed", "16-mixed"),
    "ratio_by": ("image", "group"),
    "scheduler_interval": ("epoch", "step"),
    "split_by": ("group", "image"),
    "variant": VARIANTS,
}
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
    "gradient_clip_norm": (0, MOST),
    "input_size": (1, 1024),  # above, AlexNet would have more than 4 GiB
    "rate_decay": (0, 1),
    "search_rates": (-math.inf, math.inf),  # have a check of their own
    "std": (1e-6, MOST),
    "test_copies": (1, 10_000),
    "workers": (0, 1024),
}
# Ends of these ranges that are not legal.
EXCLUDED: Mapping[str, tuple[float, ...]] = {
    **dict.fromkeys(("ratio", "long_tail", "gradient_clip_norm"), (0,)),
    **dict.fromkeys(("crop", "label_noise", "label_smoothing"), (1,)),
    **dict.fromkeys(("validation_share", "test_share"), (0, 1)),
}
FREE = ("callbacks", "logger")  # a user's own class may take any number
BATCHES = ("limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval")


def check_ranges(settings: Any, key_of: Mapping[str, str]) -> None:
    """Raise UserError if a value of a schema's instance is no choice, not finite or out of range.

    Args:
        key_of: the key of the config that each field has its value from, for messages.
    """
    for name, default in ((one.name, one.default) for one in fields(settings)):
        value, key = getattr(settings, name), key_of[name]
        if name in CHOICES and value not in (*CHOICES[name], None):
            raise UserError(f"{key}={value}: it must be one of {', '.join(CHOICES[name])}")
        if name in (*BATCHES, "max_time") and value is not None:
            _check_batches(name, value, key)
        most = sys.float_info.max if isinstance(value, Mapping) else MOST
        least, greatest = RANGES.get(name, (-most, most))
        excluded = EXCLUDED.get(name, ())
        for place, number in _numbers(value) if name not in FREE else ():
            within = least <= number <= greatest and number not in excluded
            if not within and place not in CHECKED:
                legal = f"from {least:g} to {greatest:g}" if name in RANGES else "finite, smaller"
                legal += f", without {' and '.join(map(str, excluded))}" * bool(excluded)
                where = f"{key}{place}={number}"
                cure = "Give another value" + ", or null" * (default is None)
                raise UserError(f"{where}: a number must be {legal}. {cure}.")


def _check_batches(name: str, value: object, key: str) -> None:
    """Raise UserError unless the value is a number of batches, a share of them, or a time."""
    text = "a number of batches or a share of them"
    if name in ("max_time", "val_check_interval"):
        if isinstance(value, str) and re.fullmatch(r"\d\d(:\d\d){3}", value):
            return
        if name == "max_time":
            text = "a time as days:hours:minutes:seconds, such as 00:08:00:00"
    count = type(value) is int or (isinstance(value, float) and value <= 1)
    least = 0 if name == "overfit_batches" else math.ulp(0)
    if name == "max_time" or not count or value < least:  # type: ignore[operator]
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
