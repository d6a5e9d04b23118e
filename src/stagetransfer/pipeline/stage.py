"""A stage of a chain, made ready; and its training, up to its best checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import Model, RunConfig, Stage
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.models import carry, load_weights
from stagetransfer.pipeline.stage_store import StageStore
from stagetransfer.seeding import derive
from stagetransfer.training import (
    AlexNetModule,
    Fitted,
    StageData,
    StageTransfer,
    fit,
    with_cached_features,
)


@dataclass(frozen=True)
class Link:
    """A stage made ready: its data read and checked, its key known."""

    stage: Stage
    data: DomainDataModule | Pretrained
    key: str
    number: int  # place in the chain, from 1
    before: Link | None

    @property
    def title(self) -> str:
        """Names the stage's folder in TensorBoard."""
        return f"{self.number}-{self.stage.name}"

    @property
    def seed(self) -> int:
        """Decides every random draw of the stage's training."""
        return derive(self.stage.seed, self.title)


def weights(link: Link, model: Model, outputs: Path) -> dict[str, Tensor]:
    """The weights that a finished stage hands on."""
    if isinstance(link.data, Pretrained):
        source: str | Path = link.data.weights
    else:
        source = StageStore(outputs / "stages").path(link.key) / "model.ckpt"
    return load_weights(
        source,
        model.variant,
        groups=model.groups,
        mean=tuple(model.mean),
        std=tuple(model.std),
    )


def prepare(link: Link, config: RunConfig) -> tuple[AlexNetModule, StageData, StageTransfer | None]:
    """Return the stage's module, its data (features if they can replace images) and the transfer.

    The module already has the frozen layers' weights, and can compute with them.
    """
    stage, data = link.stage, cast(DomainDataModule, link.data)
    recipe, settings = stage.recipe, stage.transfer
    module = AlexNetModule(
        config.model,
        data.classes,
        partial_of(recipe.optimizer, "recipe.optimizer"),
        partial_of(recipe.scheduler, "recipe.scheduler") if recipe.scheduler else None,
        scheduler_interval=recipe.scheduler_interval,
        rates=(settings.rates if settings else None) or [[".*", 1.0]],
        bias_rate=recipe.bias_rate,
        bias_decay=recipe.bias_decay,
        class_weights=data.class_weights() if recipe.balance == "loss" else None,
        seed=derive(link.seed, "initial"),
        channels_last=config.trainer.channels_last,
        winograd=config.trainer.winograd,
    )
    if settings is None or link.before is None:
        return module, data, None
    shown: StageData = data
    state, frozen = weights(link.before, config.model, config.outputs), settings.frozen_layers()
    if frozen:
        carry(module.network, state, frozen)
        module.fix(frozen)
        of = {"stage": link.before.key, "frozen": frozen, "model": asdict(config.model)}
        store = StageStore(config.outputs / "features")
        shown = with_cached_features(module, data, of, config.trainer, store)
    transfer = StageTransfer(
        state,
        reinitialise=settings.reinitialise,
        frozen=frozen,
        scheme=config.model.initialisation,
        seed=derive(link.seed, "anew"),
    )
    return module, shown, transfer


def train(
    link: Link, config: RunConfig, folder: Path, tensorboard: Path, note: str = ""
) -> tuple[AlexNetModule, StageData, Fitted]:
    """Trains the stage, or goes on with it where `folder` holds its last checkpoint.

    Args:
        folder: gets best.ckpt and last.ckpt.
        tensorboard: gets the stage's scalars, in a folder of their own.
        note: tells this training of the stage from others, in what is shown.
    """
    module, data, transfer = prepare(link, config)
    recipe, title = link.stage.recipe, link.title + note
    options: dict[str, Any] = {}
    if link.stage.transfer:
        options["probe_epochs"] = link.stage.transfer.probe_epochs
    fitted = fit(
        module,
        data,
        title=title,
        folder=folder,
        tensorboard=tensorboard / title,
        epochs=recipe.epochs,
        monitor=recipe.monitor,
        seed=link.seed,
        settings=config.trainer,
        transfer=transfer,
        patience=recipe.patience,
        more_callbacks=[
            partial_of(target, f"callbacks.{name}")() for name, target in config.callbacks.items()
        ],
        **options,
    )
    return module, data, fitted
