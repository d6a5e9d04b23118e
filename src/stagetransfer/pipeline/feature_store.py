"""What frozen layers give for each image: found in the shared store or put there, once."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stagetransfer.config.identity import key_of
from stagetransfer.config.schema import Trainer
from stagetransfer.data import DomainDataModule
from stagetransfer.pipeline.stage_store import StageStore
from stagetransfer.training import (
    ClassifierModule,
    feature_shape,
    read_features,
    write_features,
)

log = logging.getLogger(__name__)


def offer_features(
    module: ClassifierModule,
    data: DomainDataModule,
    of: Mapping[str, Any],
    settings: Trainer,
    outputs: Path,
) -> None:
    """Lets the data hold what the module's fixed part gives for each image, if that is possible.

    The features of all images before thinning lie in `outputs`/features/<key>/: runs of any seed,
    rate and ratio share them. Where they can't stand for the images, a line in the log says why.

    Args:
        of: names the weights of the fixed part.
    """
    limit = settings.frozen_features_gib
    if not limit:
        return
    shape = feature_shape(module)
    size = 4 * math.prod(shape) * sum(map(len, data.whole.values())) / 2**30
    if why := _obstacle(data, settings, size):
        log.info("  frozen layers are computed anew each epoch: %s", why)
        return
    key = key_of(
        {"features": dict(of), "data": data.whole_identity(), "precision": settings.precision}
    )
    store = StageStore(outputs / "features")
    with store.make(key) as folder:
        if folder is not None:
            count = sum(map(len, data.whole.values()))
            log.info("  frozen layers: computed once for %d images (%.2g GiB)", count, size)
            write_features(module, data, settings, folder)
        else:
            log.info("  frozen layers: outputs reused from %s", store.path(key))
    data.use_features(read_features(store.path(key)))


def _obstacle(data: DomainDataModule, settings: Trainer, size: float) -> str | None:
    if data.augment and data.variants:
        names = ", ".join(data.variants)
        return f"domain.{data.name} draws random variants ({names}); augment=false draws none"
    if settings.devices > 1:
        return f"trainer.devices={settings.devices}"
    if size > settings.frozen_features_gib:
        limit = f"trainer.frozen_features_gib={settings.frozen_features_gib:g}"
        return f"their outputs would take {size:.1f} GiB, {limit}"
    return None
