"""What is settled before a chain runs: its precision, the length of its stages, its classes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import RunConfig, Stage
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.errors import UserError
from stagetransfer.names import LAYERS
from stagetransfer.pipeline.stage import PreparedStage, source_weights
from stagetransfer.training import StageTransfer, build_network, planned_epochs, rates_by_layer
from stagetransfer.training.machine import resolve_precision


def with_precision(config: RunConfig) -> RunConfig:
    """Return the config with the precision that "auto" stands for on this machine.

    The run's hash and its config.yaml hold this precision: another machine may choose another.
    """
    trainer = config.trainer
    precision = resolve_precision(trainer.precision, trainer.accelerator)
    tree = {**config.tree, "trainer": {**config.tree.get("trainer", {}), "precision": precision}}
    return replace(config, trainer=replace(trainer, precision=precision), tree=tree)


def stage_epochs(config: RunConfig, stage: Stage, data: DomainDataModule | Pretrained) -> int:
    """Return the epochs of a stage's training; of a search, those of its shortest trainings."""
    if isinstance(data, Pretrained):
        return 0
    recipe = stage.recipe
    if recipe.search_epochs:
        recipe = replace(recipe, epochs=recipe.search_epochs[0])
    return planned_epochs(recipe, config.trainer, data.count("train"), f"stage {stage.name}")


def check_copies(config: RunConfig, target: PreparedStage) -> None:
    """Raise UserError if test_copies asks for random variants that the target does not have."""
    if config.test_copies > 1 and not cast(DomainDataModule, target.data).settings.random_variants:
        key = f"domain.{target.stage.name}"
        raise UserError(
            f"test_copies={config.test_copies}: {key} has no random variants to average over. "
            f"Choose some with {key}.mirror=true, turn=true or crop=0.1"
        )


def check_targets(stage: Stage) -> None:
    """Find now what would otherwise be found when the stage is trained, hours later."""
    partial_of(stage.recipe.optimizer, "recipe.optimizer")
    if stage.recipe.scheduler:
        partial_of(stage.recipe.scheduler, "recipe.scheduler")
    if stage.transfer and stage.transfer.rates:
        rates_by_layer(LAYERS, stage.transfer.rates)


def check_weights(config: RunConfig, stages: Sequence[PreparedStage]) -> None:
    """Load published weights into a network without memory, before anything is written."""
    if not isinstance(stages[0].data, Pretrained):
        build_network(config.model, 2)
        return
    settings = stages[1].stage.transfer
    assert settings is not None
    with torch.device("meta"):
        network = build_network(config.model, 2)
    state = source_weights(stages[0], config.model, config.outputs)
    StageTransfer(
        state, reinitialise=settings.reinitialise, scheme=config.model.initialisation
    ).apply(network)
