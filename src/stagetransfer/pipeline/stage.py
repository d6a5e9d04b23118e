"""One stage of a chain: its data read, its key known; and its training."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from pytorch_lightning import Callback
from torch import Tensor

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import Model, RunConfig, Stage
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.errors import UserError
from stagetransfer.files import read_json, write_json
from stagetransfer.models import copy_blocks, read_weights
from stagetransfer.pipeline.distributed import is_follower
from stagetransfer.pipeline.loggers import stage_loggers
from stagetransfer.pipeline.stage_store import RATE_FILE, StageStore
from stagetransfer.pipeline.teachers import read_teachers
from stagetransfer.seeding import derive
from stagetransfer.training import (
    ClassifierModule,
    Fitted,
    ScaledStart,
    SeedEpoch,
    StageData,
    StageTransfer,
    fit,
    frozen_blocks,
    images_of,
    new_blocks,
    range_test,
    set_aside_damaged,
    with_cached_features,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedStage:
    """A stage that is ready to be trained: its data is read and checked, and its key is known."""

    stage: Stage
    data: DomainDataModule | Pretrained
    key: str
    number: int  # position in the chain, from 1
    before: PreparedStage | None
    epochs: int  # of the training; at least recipe.epochs

    @property
    def images(self) -> DomainDataModule:
        """Return the data of a stage that is trained, not replaced by weights."""
        return cast(DomainDataModule, self.data)

    @property
    def title(self) -> str:
        """Return the name of the stage's folder in `tensorboard` and `logs`, such as 2-texture."""
        return f"{self.number}-{self.stage.name}"

    @property
    def seed(self) -> int:
        """Return the seed of every random draw of the stage's training."""
        return derive(self.stage.seed, self.title)


def with_recipe(prepared: PreparedStage, **changes: Any) -> PreparedStage:
    """Return the same stage with some keys of its recipe changed."""
    recipe = replace(prepared.stage.recipe, **changes)
    return replace(prepared, stage=replace(prepared.stage, recipe=recipe))


def source_weights(stage: PreparedStage, model: Model, outputs: Path) -> dict[str, Tensor]:
    """Return the weights that a finished stage hands on to the next."""
    if isinstance(stage.data, Pretrained):
        source: str | Path = stage.data.weights
    else:
        source = StageStore(outputs / "stages").path(stage.key) / "model.ckpt"
    return dict(read_weights(source, model))


def prepare(
    prepared: PreparedStage, config: RunConfig
) -> tuple[ClassifierModule, StageData, StageTransfer | None]:
    """Return the stage's module, its data, and the transfer if another stage comes before.

    The module already has the weights of the frozen blocks. If the outputs of these can be cached,
    they replace the images of the data. With `lr: auto`, the learning rates of the module are the
    factors of the blocks alone.
    """
    stage, data = prepared.stage, prepared.images
    recipe, settings = stage.recipe, stage.transfer
    module = ClassifierModule(
        config.model,
        data.classes,
        recipe,
        settings,
        class_weights=data.class_weights() if recipe.balance == "loss" else None,
        seed=derive(prepared.seed, "initial"),
        channels_last=config.trainer.channels_last,
        winograd=config.trainer.winograd,
    )
    if stage.is_target and config.teacher:
        module.teacher = read_teachers(config)
    if settings is None or prepared.before is None:
        return module, data, None
    shown: StageData = data
    state = source_weights(prepared.before, config.model, config.outputs)
    network = module.network
    frozen, new = frozen_blocks(settings, network), new_blocks(settings, network)
    if frozen:
        copy_blocks(network, state, frozen)
        module.set_frozen_blocks(frozen)
        if module.teacher is not None:
            log.info("  frozen blocks are computed in each epoch: the teacher needs the images")
        else:
            of = {"stage": prepared.before.key, "frozen": frozen, "model": asdict(config.model)}
            store = StageStore(config.outputs / "features")
            shown = with_cached_features(module, data, of, config.trainer, store)
    transfer = StageTransfer(
        state,
        reinitialise=new,
        frozen=frozen,
        scheme=config.model.initialisation,
        seed=derive(prepared.seed, "anew"),  # the word is part of the seed: keep it
    )
    return module, shown, transfer


def train(
    prepared: PreparedStage,
    config: RunConfig,
    *,
    checkpoints: Path,
    logs: Path,
    run: str,
    suffix: str = "",
    later: int | None = None,
) -> tuple[ClassifierModule, StageData, Fitted]:
    """Train the stage, or continue its training where `checkpoints` holds its last checkpoint.

    Args:
        checkpoints: folder that gets best.ckpt and last.ckpt.
        logs: folder below which the loggers write.
        run: name of the run that trains the stage.
        suffix: distinguishes this training of the stage from others in the logs.
        later: number of images of the later stages, for the time left; see `StageProgress`.
    """
    if not is_follower():
        set_aside_damaged(checkpoints)
    prepared, found = with_found_rate(prepared, config, checkpoints)
    module, data, transfer = prepare(prepared, config)
    title = prepared.title + suffix
    callbacks = [
        partial_of(target, f"callbacks.{name}")() for name, target in config.callbacks.items()
    ]
    callbacks += _scaled_start(prepared, config, module, data)
    fitted = fit(
        module,
        data,
        title=title,
        folder=checkpoints,
        epochs=prepared.epochs,
        seed=prepared.seed,
        settings=config.trainer,
        transfer=transfer,
        loggers=stage_loggers(
            config.logger, logs, title, run, resuming=(checkpoints / "last.ckpt").is_file()
        ),
        callbacks=callbacks,
        later=later,
    )
    return module, data, replace(fitted, learning_rate=found)


def with_found_rate(
    prepared: PreparedStage, config: RunConfig, checkpoints: Path
) -> tuple[PreparedStage, dict[str, Any] | None]:
    """Replace `lr: auto` by the learning rate that a range test suggests.

    The test starts as the training does: with the same weights, frozen layers and order of images.
    RATE_FILE in `checkpoints` keeps its result, so that a killed stage continues with its rate.
    Return the stage with a number as its learning rate, and the record of the test; None without
    one.
    """
    recipe, file = prepared.stage.recipe, checkpoints / RATE_FILE
    if recipe.optimizer["lr"] != "auto":
        return prepared, None
    if not file.is_file():
        module, data, transfer = prepare(with_recipe(prepared, scheduler=None), config)
        start = [SeedEpoch(prepared.seed), *([transfer] if transfer else [])]
        found = range_test(
            module,
            data,
            settings=config.trainer,
            callbacks=[*start, *_scaled_start(prepared, config, module, data)],
        )
        write_json(file, found)
    found = read_json(file, "Remove it, and the range test runs again.")
    if not isinstance(found.get("lr"), float):
        raise UserError(f"{file}: it holds no lr. Remove it, and the range test runs again.")
    log.info("  learning rate of the range test: %.3g", found["lr"])
    return with_recipe(prepared, optimizer={**recipe.optimizer, "lr": found["lr"]}), found


def _scaled_start(
    prepared: PreparedStage, config: RunConfig, module: ClassifierModule, data: StageData
) -> list[Callback]:
    if config.model.initialisation != "lsuv":
        return []
    settings, network = prepared.stage.transfer, module.network
    new = new_blocks(settings, network) if settings and prepared.before else network.blocks
    return [ScaledStart(images_of(data), new, derive(prepared.seed, "scale"))]
