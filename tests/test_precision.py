"""What "auto" comes to on machines with and without bfloat16 in hardware, and that it is kept."""

import pytest
import torch
from omegaconf import OmegaConf

from conftest import SMALL
from stagetransfer import config, precision
from stagetransfer.chain import ChainRunner


def machine(monkeypatch, *, cpu, gpu):
    """`cpu`: avx512, amx or none; `gpu`: None, or whether it has bfloat16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu == "avx512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: cpu == "amx")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: (
        including_emulation or bool(gpu)
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("accelerator", "cpu", "gpu", "expected"),
    [
        ("cpu", "none", None, "32-true"),
        ("cpu", "avx512", None, "bf16-mixed"),
        ("auto", "amx", None, "bf16-mixed"),
        ("cpu", "none", True, "32-true"),
        ("auto", "none", True, "bf16-mixed"),
        ("auto", "amx", False, "32-true"),  # the GPU is what trains
        ("gpu", "none", True, "bf16-mixed"),
        ("cuda", "amx", False, "32-true"),
        ("mps", "amx", None, "32-true"),
    ],
)
def test_auto(monkeypatch, accelerator, cpu, gpu, expected):
    machine(monkeypatch, cpu=cpu, gpu=gpu)
    assert precision.resolve("auto", accelerator) == expected
    assert precision.resolve("16-mixed", accelerator) == "16-mixed"


def test_what_auto_came_to_is_hashed_and_kept(monkeypatch, compose_config, tmp_path):
    def run(*overrides):
        settings = config.read(compose_config(*SMALL, f"paths.outputs={tmp_path}", *overrides))
        assert OmegaConf.create(settings.resolved).trainer.precision == settings.trainer.precision
        return ChainRunner(settings).folder.name

    machine(monkeypatch, cpu="none", gpu=None)
    assert run() == run("trainer.precision=32-true")
    plain = run()
    machine(monkeypatch, cpu="avx512", gpu=None)
    assert run() == run("trainer.precision=bf16-mixed") != plain
    assert run("trainer.precision=32-true", "trainer.channels_last=false") == plain
    assert run("trainer.precision=32-true", "trainer.winograd=false") == plain
    assert run("trainer.precision=32-true", "trainer.keep_memory=false") == plain
