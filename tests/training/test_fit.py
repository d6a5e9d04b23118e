"""What the trainer's settings come to."""

import importlib

import pytest
import torch

from stagetransfer.config.schema import Trainer
from stagetransfer.models import WinogradConv2d
from stagetransfer.pipeline.stage import prepare
from stagetransfer.training import machine

LAST = torch.channels_last
fit = importlib.import_module("stagetransfer.training.fit")  # the package's `fit` is the function


@pytest.mark.parametrize(("asked", "layout"), [(True, LAST), (False, torch.contiguous_format)])
def test_images_come_to_the_network_in_its_layout(start, tmp_path, asked, layout):
    run = start(tmp_path, "+experiment=scratch", f"trainer.channels_last={asked}")
    module, _, _ = prepare(run.stages[-1], run.config)
    for given in (LAST, torch.contiguous_format):
        size = module.network.input_size
        x = torch.zeros(2, 3, size, size).contiguous(memory_format=given)
        assert module.features(x).is_contiguous(memory_format=layout)
    assert module.network.conv1.weight.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("asked", [True, False])
def test_winograd_reaches_every_convolution(start, tmp_path, asked):
    run = start(tmp_path, "+experiment=scratch", f"trainer.winograd={asked}")
    module, _, _ = prepare(run.stages[-1], run.config)
    layers = [layer for layer in module.network if isinstance(layer, WinogradConv2d)]
    assert [layer.winograd for layer in layers] == [asked] * 5


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
