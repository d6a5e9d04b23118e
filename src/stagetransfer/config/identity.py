"""Which settings decide a result. The only place that answers this question.

The schema declares the role of each key. From it follow the keys of stages, which also name the
runs, and whether two runs can be compared (`stagetransfer.runs`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, asdict, fields, is_dataclass
from typing import Any, Literal, cast, get_type_hints

from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.config.schema import Config, Model, Recipe, RunConfig, Stage, Trainer, Transfer

# Part of every hash. It is raised when a change of this package changes what the same settings
# lead to, so that stages and runs of an older version are not mistaken for those of the new one.
GENERATION = 5

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


def stage_identity(config: RunConfig, stage: Stage, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides a stage's weights, except the stage before it.

    `data` is the identity of its images, see `stagetransfer.data.DomainDataModule.identity`.
    """
    trainer, transfer = deciding(config.trainer), stage.transfer
    if not (transfer and (transfer.search or transfer.freezes)) or data.get("augment"):
        del trainer["frozen_features_gib"]  # there are no features to cache
    model = deciding(config.model)
    if config.model.library != "alexnet":
        del model["dropout"]  # that of other networks is among their options
    return {
        "name": stage.name,
        "domain": dict(data),
        "model": model,
        "recipe": deciding(stage.recipe),
        "transfer": deciding(transfer) if transfer else None,
        "trainer": trainer,
        "callbacks": {name: own for name, own in config.callbacks.items() if name not in OBSERVERS},
        "seed": stage.seed,
    }


def key_of(identity: Mapping[str, Any]) -> str:
    """Return the 16 hexadecimal digits that name what has this identity."""
    text = json.dumps({"generation": GENERATION, **identity}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
