"""What "auto" and "fast" precision come to on each kind of machine, and that it is kept."""

import pytest
import torch

from conftest import SMALL
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.training.machine import resolve_precision


def machine(monkeypatch, *, cpu, gpu):
    """`cpu`: avx512, amx or none; `gpu`: None, or whether it has bfloat16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu == "avx512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: cpu == "amx")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: (
        including_emulation or bool(gpu)
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("accelerator", "cpu", "gpu", "auto", "fast"),
    [
        ("cpu", "none", None, "32-true", "32-true"),
        ("cpu", "avx512", None, "32-true", "bf16-mixed"),
        ("auto", "amx", None, "32-true", "bf16-mixed"),
        ("cpu", "none", True, "32-true", "32-true"),
        ("auto", "none", True, "bf16-mixed", "bf16-mixed"),
        ("auto", "amx", False, "32-true", "32-true"),  # the GPU is what trains
        ("gpu", "none", True, "bf16-mixed", "bf16-mixed"),
        ("cuda", "amx", False, "32-true", "32-true"),
        ("mps", "amx", None, "32-true", "32-true"),
    ],
)
def test_what_they_resolve_to(monkeypatch, accelerator, cpu, gpu, auto, fast):
    machine(monkeypatch, cpu=cpu, gpu=gpu)
    assert resolve_precision("auto", accelerator) == auto
    assert resolve_precision("fast", accelerator) == fast
    if accelerator == "cpu" or (accelerator == "auto" and gpu is None):
        with pytest.raises(UserError, match="precision=16-mixed: float16 needs a GPU"):
            resolve_precision("16-mixed", accelerator)
    else:
        assert resolve_precision("16-mixed", accelerator) == "16-mixed"


def test_the_resolved_precision_is_hashed_and_recorded(monkeypatch, compose_config, tmp_path):
    def run(*overrides):
        settings = validate_config(compose_config(*SMALL, f"paths.outputs={tmp_path}", *overrides))
        runner = ChainRunner(settings)
        assert runner.config.tree["trainer"]["precision"] == runner.config.trainer.precision
        assert runner.config.trainer.precision != "auto"
        return runner.folder.name

    for cpu in ("none", "avx512"):  # the processor decides nothing
        machine(monkeypatch, cpu=cpu, gpu=None)
        plain = run()
        assert plain == run("trainer.precision=32-true")
        assert plain != run("trainer.precision=bf16-mixed")
        assert run("trainer.keep_memory=false") == plain
    assert run("trainer.precision=fast") == run("trainer.precision=bf16-mixed")
    machine(monkeypatch, cpu="none", gpu=True)
    assert run("trainer.accelerator=auto") == run("trainer.precision=bf16-mixed")
