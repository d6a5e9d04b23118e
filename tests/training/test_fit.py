"""What the trainer's settings come to."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from stagetransfer.config.schema import Trainer
from stagetransfer.models import WinogradConv2d
from stagetransfer.pipeline.stage import prepare
from stagetransfer.training import machine
from stagetransfer.training.callbacks import BestEpoch
from stagetransfer.training.watch_losses import WatchLosses

LAST = torch.channels_last
fit = importlib.import_module("stagetransfer.training.fit")  # the package's `fit` is the function


@pytest.mark.parametrize(("asked", "layout"), [(True, LAST), (False, torch.contiguous_format)])
def test_images_come_to_the_network_in_its_layout(start, tmp_path, asked, layout):
    run = start(tmp_path, "+experiment=scratch", f"trainer.channels_last={asked}")
    module, _, _ = prepare(run.stages[-1], run.config)
    for given in (LAST, torch.contiguous_format):
        size = module.network.input.size
        x = torch.zeros(2, 3, size, size).contiguous(memory_format=given)
        seen: list[torch.Tensor] = []
        hook = module.network.net.conv1.register_forward_pre_hook
        hook(lambda _, inputs, seen=seen: seen.append(*inputs))
        module(x)
        assert seen[0].is_contiguous(memory_format=layout)
    assert module.network.net.conv1.weight.is_contiguous(memory_format=layout)


def test_lightnings_check_before_the_training_changes_no_callback():
    """It validates the first batches with the untrained network."""
    metrics = {"validation/cross_entropy": 0.1, "validation/accuracy": 1.0}
    trainer = SimpleNamespace(
        sanity_checking=True, callback_metrics=metrics, current_epoch=0, world_size=1
    )
    for callback in (BestEpoch("accuracy", lowest=False, patience=1), WatchLosses()):
        before = callback.state_dict()
        callback.on_validation_end(trainer, None)
        assert callback.state_dict() == before


@pytest.mark.parametrize("asked", [True, False])
def test_winograd_reaches_every_convolution(start, tmp_path, asked):
    run = start(tmp_path, "+experiment=scratch", f"trainer.winograd={asked}")
    module, _, _ = prepare(run.stages[-1], run.config)
    layers = [layer for layer in module.network.net if isinstance(layer, WinogradConv2d)]
    assert [layer.winograd for layer in layers] == [asked] * 5


def test_a_test_uses_one_device_whatever_the_strategy_of_the_training(monkeypatch):
    asked = []

    class Trained(Exception):
        pass

    def build_trainer(settings, **_):
        asked.append((settings.devices, settings.strategy))
        raise Trained

    monkeypatch.setattr(fit, "build_trainer", build_trainer)
    data = SimpleNamespace(evaluations=lambda split, copies: [None])
    with pytest.raises(Trained):
        fit.evaluate(None, data, Trainer(devices=2, strategy="ddp_find_unused_parameters_true"))
    assert asked == [(1, None)]


@pytest.mark.parametrize("asked", [True, False])
def test_memory_is_kept_where_asked(monkeypatch, asked):
    calls = []
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: calls.append(True))
    fit.build_trainer(
        Trainer(keep_memory=asked, accelerator="cpu", precision="32-true"),
        callbacks=[],
        logger=False,
    )
    assert calls == [True] * asked


def test_new_tensors_are_not_written_over():
    """PyTorch's default under deterministic algorithms: a twentieth of a step on the CPU."""
    torch.utils.deterministic.fill_uninitialized_memory = True
    fit.build_trainer(Trainer(accelerator="cpu", precision="32-true"), callbacks=[], logger=False)
    assert not torch.utils.deterministic.fill_uninitialized_memory
