"""One stage of a chain: its data read, its key known; and its training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import Model, RunConfig, Stage
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.models import LAYERS, copy_layers, load_weights
from stagetransfer.pipeline.loggers import stage_loggers
from stagetransfer.pipeline.stage_store import StageStore
from stagetransfer.seeding import derive
from stagetransfer.training import (
    ClassifierModule,
    Fitted,
    OptimizerSettings,
    ScaledStart,
    StageData,
    StageTransfer,
    fit,
    images_of,
    with_cached_features,
)


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
    def title(self) -> str:
        """Return the name of the stage's folder in `tensorboard` and `logs`, such as 2-texture."""
        return f"{self.number}-{self.stage.name}"

    @property
    def seed(self) -> int:
        """Return the seed of every random draw of the stage's training."""
        return derive(self.stage.seed, self.title)


def source_weights(stage: PreparedStage, model: Model, outputs: Path) -> dict[str, Tensor]:
    """Return the weights that a finished stage hands on to the next."""
    if isinstance(stage.data, Pretrained):
        source: str | Path = stage.data.weights
    else:
        source = StageStore(outputs / "stages").path(stage.key) / "model.ckpt"
    return load_weights(
        source,
        model.variant,
        groups=model.groups,
        mean=tuple(model.mean),
        std=tuple(model.std),
    )


def prepare(
    prepared: PreparedStage, config: RunConfig
) -> tuple[ClassifierModule, StageData, StageTransfer | None]:
    """Return the stage's module, its data, and the transfer if another stage comes before.

    The module already has the weights of the frozen layers. If the outputs of these can be cached,
    they replace the images of the data.
    """
    stage, data = prepared.stage, cast(DomainDataModule, prepared.data)
    recipe, settings = stage.recipe, stage.transfer
    optimizer = OptimizerSettings(
        partial_of(recipe.optimizer, "recipe.optimizer"),
        lr=float(recipe.optimizer["lr"]),
        weight_decay=float(recipe.optimizer.get("weight_decay", 0.0)),
        rates=(settings.rates if settings else None) or [[".*", 1.0]],
        bias_rate=recipe.bias_rate,
        bias_decay=recipe.bias_decay,
        scheduler=partial_of(recipe.scheduler, "recipe.scheduler") if recipe.scheduler else None,
        scheduler_interval=recipe.scheduler_interval,
        gradient_clip_norm=recipe.gradient_clip_norm,
    )
    module = ClassifierModule(
        config.model,
        data.classes,
        optimizer,
        class_weights=data.class_weights() if recipe.balance == "loss" else None,
        label_smoothing=recipe.label_smoothing,
        seed=derive(prepared.seed, "initial"),
        channels_last=config.trainer.channels_last,
        winograd=config.trainer.winograd,
    )
    if settings is None or prepared.before is None:
        return module, data, None
    shown: StageData = data
    state = source_weights(prepared.before, config.model, config.outputs)
    frozen = settings.frozen_layers()
    if frozen:
        copy_layers(module.network, state, frozen)
        module.set_frozen_layers(frozen)
        of = {"stage": prepared.before.key, "frozen": frozen, "model": asdict(config.model)}
        store = StageStore(config.outputs / "features")
        shown = with_cached_features(module, data, of, config.trainer, store)
    transfer = StageTransfer(
        state,
        reinitialise=settings.reinitialise,
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
) -> tuple[ClassifierModule, StageData, Fitted]:
    """Train the stage, or continue its training where `checkpoints` holds its last checkpoint.

    Args:
        checkpoints: folder that gets best.ckpt and last.ckpt.
        logs: folder below which the loggers write.
        run: name of the run that trains the stage.
        suffix: distinguishes this training of the stage from others in the logs.
    """
    module, data, transfer = prepare(prepared, config)
    recipe, title = prepared.stage.recipe, prepared.title + suffix
    settings = prepared.stage.transfer
    callbacks = [
        partial_of(target, f"callbacks.{name}")() for name, target in config.callbacks.items()
    ]
    if config.model.initialisation == "lsuv":
        new = settings.reinitialise if settings and transfer else LAYERS
        callbacks.append(ScaledStart(images_of(data), new, derive(prepared.seed, "scale")))
    fitted = fit(
        module,
        data,
        title=title,
        folder=checkpoints,
        epochs=prepared.epochs,
        monitor=recipe.monitor,
        seed=prepared.seed,
        settings=config.trainer,
        transfer=transfer,
        patience=recipe.patience,
        probe_epochs=_stretched(settings.probe_epochs, prepared) if settings else 0,
        loggers=stage_loggers(
            config.logger, logs, title, run, resuming=(checkpoints / "last.ckpt").is_file()
        ),
        callbacks=callbacks,
    )
    return module, data, fitted


def _stretched(epochs: int, prepared: PreparedStage) -> int:
    """Return epochs of the recipe in proportion to those that `recipe.min_steps` adds."""
    return round(epochs * prepared.epochs / prepared.stage.recipe.epochs)
