"""The types of the values of metrics.json and config.yaml, which somebody may have edited."""

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

_NUMBER = (int, float)
_INTEGER_OR_NULL, _OBJECT_OR_NULL = (int, NoneType), (dict, NoneType)
_RUN: dict[str, Any] = {
    "num_train": int, "num_validation": _INTEGER_OR_NULL, "source_seed": _INTEGER_OR_NULL,
    **dict.fromkeys(("chain", "stages", "classes"), list),
    **dict.fromkeys(("test", "versions", "blocks"), dict),
    **dict.fromkeys(("num_train_per_class", "identical_images"), _OBJECT_OR_NULL),
    **dict.fromkeys(("splits", "search_rates"), _OBJECT_OR_NULL),
}  # fmt: skip
_STAGE: dict[str, Any] = {
    "name": str, "key": str, "epochs": int, "seconds": _NUMBER, "images_per_second": _NUMBER,
    **dict.fromkeys(("validation", "health", "blocks"), _OBJECT_OR_NULL),
    **dict.fromkeys(("carried", "reinitialised", "frozen"), list),
}  # fmt: skip
_HEALTH: dict[str, Any] = {
    **dict.fromkeys(("recall", "low", "high"), (*_NUMBER, NoneType)),  # null: not a number
    "chance": _NUMBER, "learned": bool, "verdict": str,
}  # fmt: skip
_SPLITS: dict[str, Any] = {"fold": _INTEGER_OR_NULL, "folds": _INTEGER_OR_NULL}
_RATES: dict[str, Any] = {"lr": _NUMBER, "epochs": int, "tried": list, "monitor": str}
_SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("confounder", "label_noise", "long_tail"), (*_NUMBER, NoneType)),
    **dict.fromkeys(("layout", "recipe.monitor"), (str, NoneType)),
    "recipe.epochs": (*_NUMBER, NoneType), "recipe.optimizer.lr": (*_NUMBER, str, NoneType),
    "chain": list,
}  # fmt: skip
# Of config.yaml, and without a dot of each domain. A learning rate may be "auto".
_VALUES = {"num_train_per_class": int, "versions": str, "blocks": list}  # of all their keys


def wrong_types(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words each value that no version of this package writes in this place.

    Keys that are absent are not looked at, except those that stand in an entry only together.
    """
    yield from _wrong(record, "", _RUN)
    stages = record.get("stages")
    for number, stage in enumerate(stages if isinstance(stages, list) else [], 1):
        place = f"stage {number}: "
        yield from _wrong(stage, place, _STAGE)
        if not isinstance(stage, Mapping):
            continue
        if health := stage.get("health"):
            yield from _wrong(health, f"{place}health.", _HEALTH, complete=True)
            remarks = health.get("remarks") or []
            if not isinstance(remarks, list) or not all(isinstance(one, str) for one in remarks):
                yield f"{place}health.remarks is {repr(remarks)[:60]}"
        if validation := stage.get("validation"):
            kinds = dict.fromkeys(validation, (*_NUMBER, NoneType))
            yield from _wrong(validation, f"{place}validation.", kinds)
    for name, kinds in (("splits", _SPLITS), ("search_rates", _RATES)):
        if entry := record.get(name):
            yield from _wrong(entry, f"{name}.", kinds, complete=True)
    for name, kind in _VALUES.items():
        if isinstance(entry := record.get(name), Mapping):
            yield from _wrong(entry, f"{name}.", dict.fromkeys(entry, kind))


def wrong_settings(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words each value of config.yaml, with flat keys, that reports could not use."""
    for key, value in config.items():
        domain = key.startswith("domain.") and key.count(".") == 2
        kind = _SETTINGS.get(key.rpartition(".")[2] if domain else key)
        if kind is not None and not isinstance(value, kind):
            yield f"{key} is {repr(value)[:60]}"


def _wrong(
    entry: Any, place: str, kinds: Mapping[str, Any], *, complete: bool = False
) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f"{place.rstrip('.: ') or 'all of it'} is {repr(entry)[:60]}"
        return
    for name, kind in kinds.items():
        if name not in entry:
            if complete:
                yield f"{place}{name} is missing"
        elif not isinstance(entry[name], kind):
            yield f"{place}{name} is {repr(entry[name])[:60]}"
