"""What is settled before a chain runs: its precision, the length of its stages, its classes."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import isfunction
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import Model, RunConfig, Stage, Transfer
from stagetransfer.config.typed import typed
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.errors import UserError, first_line
from stagetransfer.models import Backbone, build_backbone
from stagetransfer.pipeline.stage import PreparedStage, source_weights
from stagetransfer.training import StageTransfer, check_transfer, new_blocks, planned_epochs
from stagetransfer.training.fit import build_trainer
from stagetransfer.training.machine import resolve_precision
from stagetransfer.training.parameter_groups import base_rate


def with_precision(config: RunConfig) -> RunConfig:
    """Return the config with the precision that "auto" stands for on this machine.

    The run's hash and its config.yaml hold this precision: another machine may choose another.
    """
    trainer = config.trainer
    precision = resolve_precision(trainer.precision, trainer.accelerator)
    tree = {**config.tree, "trainer": {**config.tree.get("trainer", {}), "precision": precision}}
    return replace(config, trainer=replace(trainer, precision=precision), tree=tree)


def stage_epochs(config: RunConfig, stage: Stage, data: DomainDataModule) -> int:
    """Return the epochs of a stage's training; of a search, those of its shortest trainings."""
    recipe = stage.recipe
    if recipe.search_epochs:
        recipe = replace(recipe, epochs=recipe.search_epochs[0])
    return planned_epochs(recipe, config.trainer, data.count("train"), f"stage {stage.name}")


def check_settings(config: RunConfig) -> None:
    """Raise UserError if Lightning or PyTorch refuses a setting, before any data is read.

    The Trainer is built for one device: one for several starts their processes.
    """
    _check_devices(config.trainer.accelerator, config.trainer.devices)
    for group, base in (("callbacks", pl.Callback), ("logger", Logger)):
        for name, target in getattr(config, group).items():
            _check_class(target, f"{group}.{name}", base)
    try:
        build_trainer(replace(config.trainer, devices=1), callbacks=[], logger=False)
    except Exception as error:  # each of Lightning's connectors has exceptions of its own
        raise UserError(f"trainer: {first_line(error)}. Change the setting.") from error
    for stage in config.stages:
        _check_targets(stage)


def _check_devices(accelerator: str, devices: int) -> None:
    """Refuse more devices than there are: processes would wait for each other, or never end."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    there = torch.cuda.device_count() if on_gpu else (os.cpu_count() or 1)
    if devices > max(there, 1):  # Lightning's own line says that there is none
        kind = "GPUs" if on_gpu else "processor cores"
        raise UserError(
            f"trainer.devices={devices}: there are {there} {kind}. Give {there} or fewer"
        )


def _check_class(target: Any, key: str, base: type) -> None:
    if not isinstance(target, Mapping):
        raise UserError(f"{key}={target}: it must hold a _target_. Remove it, or set one.")
    made = partial_of(target, key)
    fits = issubclass(made.func, base) if isinstance(made.func, type) else isfunction(made.func)
    if not fits:
        raise UserError(f"{key}: {target['_target_']} is no {base.__name__}. Set another _target_.")
    try:
        inspect.signature(made).bind()
    except TypeError as error:
        raise UserError(f"{key}: {target['_target_']}: {error}. Set it in {key}.") from error


def _check_targets(stage: Stage) -> None:
    """Build optimiser and schedule for one parameter, so that they do not fail hours later."""
    recipe = stage.recipe
    optimizer = {**recipe.optimizer, "lr": base_rate(recipe)}
    of_group = {"lr": optimizer["lr"], "weight_decay": float(optimizer.get("weight_decay", 0))}
    built: Any = [{"params": [torch.zeros(1, requires_grad=True)], **of_group}]
    for key, target in (("optimizer", optimizer), ("scheduler", recipe.scheduler)):
        if not target:
            continue
        build, name = partial_of(target, f"recipe.{key}"), target["_target_"]
        total = {"total_steps": 100} if "total_steps" in inspect.signature(build).parameters else {}
        try:
            built = build(built, **total)
        except Exception as error:  # what the class raises for a value that it does not take
            made = f"recipe.{key}: {name} with these keywords fails"
            raise UserError(f"{made} ({first_line(error)}). Correct a keyword.") from error
        if not hasattr(built, "step"):
            raise UserError(f"recipe.{key}: {name} makes no {key}. Set another.")


def _check_size(model: Model, network: Backbone) -> None:
    """Raise UserError if the network cannot take images of this size; AlexNet checks it itself."""
    if model.library == "alexnet":
        return
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, model.input_size, model.input_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"model.input_size={model.input_size}: {model.name} cannot take such images "
            f"({first_line(error)}). Give another size"
        ) from error


def check_stages(config: RunConfig, stages: Sequence[PreparedStage]) -> None:
    """Raise UserError if data, network and published weights do not fit the settings of stages.

    This comes before anything is written.
    """
    for prepared in stages:
        if prepared.stage.recipe.monitor == "auroc" and not isinstance(prepared.data, Pretrained):
            labels = prepared.images.labels("validation").tolist()
            if len({*labels}) < 2:
                raise UserError(
                    f"recipe.monitor=auroc: the {len(labels)} validation images of domain."
                    f"{prepared.stage.name} are of one class, so no area is defined. Take "
                    "recipe.monitor=last, or put images of other classes into the validation set"
                )
    key = f"domain.{stages[-1].stage.name}"
    if config.test_copies > 1 and not stages[-1].images.settings.random_variants:
        raise UserError(
            f"test_copies={config.test_copies}: {key} has no random variants to average over. "
            f"Choose some with {key}.mirror=true, turn=true or crop=0.1"
        )
    _check_network(config, stages)


def _check_network(config: RunConfig, stages: Sequence[PreparedStage]) -> None:
    """Check that the network has the blocks that settings name, and that weights fit it.

    AlexNet, which is large, is built without memory.
    """
    with torch.device("meta" if config.model.library == "alexnet" else "cpu"):
        network = build_backbone(config.model, 2)
    _check_size(config.model, network)
    if len(stages) == 1:  # nothing is transferred, but another condition of a sweep may do so
        check_transfer(typed(Transfer, ("transfer", config.tree.get("transfer", {}))), network)
    for prepared in stages:
        if prepared.stage.transfer:
            check_transfer(prepared.stage.transfer, network)
    if isinstance(stages[0].data, Pretrained):
        settings = stages[1].stage.transfer
        assert settings is not None
        state = source_weights(stages[0], config.model, config.outputs)
        new = new_blocks(settings, network)
        StageTransfer(state, reinitialise=new, scheme=config.model.initialisation).apply(network)
