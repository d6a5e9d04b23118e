"""The key of a stage: a hash of everything that decides its weights. It also names the run."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from stagetransfer.config.identity import OBSERVERS, deciding
from stagetransfer.config.schema import RunConfig, Stage

# Part of every hash. It is raised when a change of this package changes what the same settings
# lead to, so that stages and runs of an older version are not mistaken for those of the new one.
GENERATION = 4


def stage_identity(config: RunConfig, stage: Stage, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides a stage's weights, except the stage before it.

    `data` is the identity of the stage's images; see
    `stagetransfer.data.DomainDataModule.identity`.
    """
    trainer, transfer = deciding(config.trainer), stage.transfer
    if not (transfer and (transfer.search or transfer.freezes)) or data.get("augment"):
        del trainer["frozen_features_gib"]  # there are no features to cache
    return {
        "name": stage.name,
        "domain": dict(data),
        "model": deciding(config.model),
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
