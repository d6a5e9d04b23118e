"""Which settings decide a result. The only place that answers this question.

The schema declares the role of each key. From it follow the keys of stages and the names of runs
(`stagetransfer.config.stage_key`) and whether two runs can be compared (`stagetransfer.runs`).
"""

from dataclasses import Field, asdict, fields, is_dataclass
from typing import Any, Literal, cast, get_type_hints

from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.config.schema import Config, Model, Recipe, Trainer, Transfer

Role = Literal["decides", "place", "idle"]

# Callbacks that only observe a training. All others decide its result.
OBSERVERS = ("feature_images",)


def role_of(key: str) -> Role:
    """Return the role of a flat config key, such as "trainer.devices" or "stage.natural.recipe".

    Keys that the schema does not know belong to a user's own class and decide.
    """
    parts = key.split(".")
    match parts:
        case ["hydra" | "paths" | "logger", *_]:
            return "idle"
        case ["callbacks", name, *_] if name in OBSERVERS:
            return "idle"
        case ["domain", _, *rest]:
            return _role(DomainSettings, rest)
        case ["stage", _, "require_learning"]:
            return "idle"
        case ["stage", _, "recipe", *rest]:
            return _role(Recipe, rest)
        case ["stage", _, "transfer", *rest]:
            return _role(Transfer, rest)
    return _role(Config, parts)


def _role(schema: type, parts: list[str]) -> Role:
    known: dict[str, Field[Any]] = {one.name: one for one in fields(schema)}
    if not parts or parts[0] not in known:
        return "decides"
    if len(parts) > 1:
        kind = get_type_hints(schema)[parts[0]]
        if is_dataclass(kind):
            return _role(cast(type, kind), parts[1:])
    return cast(Role, known[parts[0]].metadata["role"])


def deciding(settings: Model | Recipe | Transfer | Trainer) -> dict[str, Any]:
    """Return the settings that decide a result, by name."""
    values = asdict(settings)
    chosen = [one.name for one in fields(settings) if one.metadata["role"] != "idle"]
    return {name: values[name] for name in chosen}
