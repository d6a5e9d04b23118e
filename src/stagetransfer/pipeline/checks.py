"""What is settled before a chain runs: its precision, the length of its stages, its classes."""

import inspect
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import isfunction
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stagetransfer.config.instantiate import partial_of
from stagetransfer.config.schema import Model, RunConfig, Stage, Transfer
from stagetransfer.config.typed import typed
from stagetransfer.data import DomainDataModule, Pretrained
from stagetransfer.errors import UserError, first_line
from stagetransfer.models import Backbone, build_backbone
from stagetransfer.pipeline.stage import PreparedStage, source_weights
from stagetransfer.training import StageTransfer, check_transfer, new_blocks, planned_epochs
from stagetransfer.training.fit import build_trainer
from stagetransfer.training.length import batches_per_epoch
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

    Strategies other than ddp and its variants, whose processes are started by command lines, would
    lose what callbacks record, or write weights in another form.

    The Trainer is built for one device: one for several starts their processes.
    """
    _check_devices(config.trainer.accelerator, config.trainer.devices)
    for group, base in (("callbacks", pl.Callback), ("logger", Logger)):
        for name, target in getattr(config, group).items():
            _check_class(target, f"{group}.{name}", base)
    strategy = config.trainer.strategy or "auto"
    other = re.search("spawn|fork|notebook", strategy) or not strategy.startswith(("auto", "ddp"))
    if other:
        raise UserError(f"trainer.strategy={strategy}: use ddp, one of its variants, or null")
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
    """Build optimiser and schedule for two groups, so that they do not fail hours later."""
    recipe, transfer = stage.recipe, stage.transfer
    optimizer = {**recipe.optimizer, "lr": base_rate(recipe)}
    lr, decay = optimizer["lr"], float(optimizer.get("weight_decay", 0))
    groups = [
        {"params": [torch.zeros(1, requires_grad=True)], "lr": own, "weight_decay": decay}
        for own in (lr, lr / 10)
    ]
    built: Any = groups
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
        if isinstance(built, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise UserError(f"recipe.scheduler: {name} needs a metric, and gets none. Set another.")
        if key == "optimizer":
            groups = built.param_groups
    first, second = (group["lr"] for group in groups)
    own_rates = transfer and (transfer.rates or transfer.rate_decay is not None)
    if (own_rates or recipe.bias_rate != 1) and not math.isclose(first, 10 * second):
        raise UserError(
            f"recipe.scheduler: {recipe.scheduler and recipe.scheduler['_target_']} gives all "
            "layers one learning rate, so transfer.rates, transfer.rate_decay and "
            "recipe.bias_rate would have no effect. Set another, or leave these out."
        )


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
        if not isinstance(prepared.data, Pretrained):
            count = prepared.images.count("validation")
            batches_per_epoch(prepared.stage.recipe, config.trainer, count, "validation")
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
    pretrained = isinstance(stages[0].data, Pretrained)
    with torch.device("meta" if config.model.library == "alexnet" else "cpu"):
        num_classes = len(stages[1].images.classes) if pretrained else 2
        network = build_backbone(config.model, num_classes)
    _check_size(config.model, network)
    _check_batch_norm(config, stages, network)
    if len(stages) == 1:  # nothing is transferred, but another condition of a sweep may do so
        check_transfer(typed(Transfer, ("transfer", config.tree.get("transfer", {}))), network)
    for prepared in stages:
        if prepared.stage.transfer:
            check_transfer(prepared.stage.transfer, network)
            _check_kept_classifier(prepared, network)
    if pretrained:
        settings = stages[1].stage.transfer
        assert settings is not None
        state = source_weights(stages[0], config.model, config.outputs)
        new = new_blocks(settings, network)
        StageTransfer(state, reinitialise=new, scheme=config.model.initialisation).apply(network)


def _check_batch_norm(
    config: RunConfig, stages: Sequence[PreparedStage], network: Backbone
) -> None:
    """Raise UserError where batch normalisation could not be trained as it is."""
    norms = [one for one in network.net.modules() if isinstance(one, _BatchNorm)]
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if config.trainer.sync_batchnorm and any(type(one) not in plain for one in norms):
        raise UserError(
            f"trainer.sync_batchnorm=true: {config.model.name} has layers of normalisation and "
            "activation in one, whose activation Lightning would leave out. Set it to null"
        )
    for prepared in stages:
        if not norms or isinstance(prepared.data, Pretrained):
            continue
        batch, count = prepared.stage.recipe.batch_size, prepared.data.count("train")
        if count // config.trainer.devices % batch != 1:
            continue
        try:
            with torch.no_grad():
                network.train()(torch.zeros(1, 3, *[config.model.input_size] * 2))
        except ValueError as error:  # a normalisation of one value per channel
            raise UserError(
                f"stage {prepared.stage.name}: the last batch of its {count} images has one image, "
                f"which {config.model.name} cannot train on ({first_line(error)}). Set another "
                "recipe.batch_size"
            ) from error


def _check_kept_classifier(prepared: PreparedStage, network: Backbone) -> None:
    """Raise UserError if a classifier that is not re-initialised has other classes before."""
    before, transfer = prepared.before, prepared.stage.transfer
    assert transfer is not None
    if before is None or isinstance(before.data, Pretrained):
        return  # the shapes of published weights are compared by themselves
    head, counts = network.blocks[-1], (len(before.images.classes), len(prepared.images.classes))
    if counts[0] != counts[1] and head not in new_blocks(transfer, network):
        raise UserError(
            f"transfer.reinitialise: without {head}, the {counts[0]} classes of "
            f"{before.stage.name} would have to be the {counts[1]} of {prepared.stage.name}. Add it"
        )
