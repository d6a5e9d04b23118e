"""The types of the values of metrics.json, which somebody may have edited or received."""

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

_NUMBER = (int, float)
_RUN: dict[str, Any] = {
    "num_train": int,
    "num_train_per_class": (dict, NoneType),
    "num_validation": (int, NoneType),
    "source_seed": (int, NoneType),
    "chain": list,
    "stages": list,
    "classes": list,
    "test": dict,
    "versions": dict,
    "splits": (dict, NoneType),
    "search_rates": (dict, NoneType),
    "identical_images": (dict, NoneType),
    "blocks": dict,
}
_STAGE: dict[str, Any] = {
    "name": str,
    "key": str,
    "epochs": int,
    "seconds": _NUMBER,
    "images_per_second": _NUMBER,
    "validation": (dict, NoneType),
    "health": (dict, NoneType),
    "blocks": (dict, NoneType),
    "carried": list,
    "reinitialised": list,
    "frozen": list,
}
_HEALTH: dict[str, Any] = {
    **dict.fromkeys(("recall", "low", "high"), (*_NUMBER, NoneType)),  # null: not a number
    "chance": _NUMBER,
    "learned": bool,
    "verdict": str,
}
_SPLITS: dict[str, Any] = {"fold": (int, NoneType), "folds": (int, NoneType)}
_RATES: dict[str, Any] = {"lr": _NUMBER, "epochs": int, "tried": list, "monitor": str}


def wrong_types(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words each value that no version of this package writes in this place.

    Keys that are absent are not looked at, except those that stand in an entry only together.
    """
    yield from _wrong(record, "", _RUN)
    for number, stage in enumerate(_items(record.get("stages")), 1):
        place = f"stage {number}: "
        yield from _wrong(stage, place, _STAGE)
        health = stage.get("health") if isinstance(stage, Mapping) else None
        if health:
            yield from _wrong(health, f"{place}health.", _HEALTH, complete=True)
    for name, kinds in (("splits", _SPLITS), ("search_rates", _RATES)):
        if entry := record.get(name):
            yield from _wrong(entry, f"{name}.", kinds, complete=True)
    for name, own in (("num_train_per_class", int), ("versions", str), ("blocks", list)):
        entry = record.get(name)
        for key, value in entry.items() if isinstance(entry, Mapping) else ():
            if not isinstance(value, own):
                yield f"{name}.{key} is {_short(value)}"


def _wrong(
    entry: Any, place: str, kinds: Mapping[str, Any], *, complete: bool = False
) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f"{place.rstrip('.: ') or 'all of it'} is {_short(entry)}"
        return
    for name, kind in kinds.items():
        if name not in entry:
            if complete:
                yield f"{place}{name} is missing"
        elif not isinstance(entry[name], kind):
            yield f"{place}{name} is {_short(entry[name])}"


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _short(value: object) -> str:
    return repr(value)[:60]
