"""Frozen blocks of a network with BatchNorm keep every bit through a training; tuned ones move."""

import subprocess
import sys

import pytest
import torch

from conftest import ONE_THREAD, REPOSITORY, SMALL
from stagetransfer.files import read_json
from stagetransfer.training.callbacks import SeedEpoch

NETWORK = [
    "+experiment=natural", "model=timm", "model.name=resnet10t", "model.input_size=64",
    "transfer.tune_from=layer3", "recipe.epochs=3", "++stage.natural.recipe.epochs=2",
]  # fmt: skip


class Killed(Exception):
    pass


def check(run):
    """Compare the network with its source, tensor by tensor."""
    record = read_json(run / "metrics.json")
    assert record["backbone"] == "resnet10t"
    assert list(record["blocks"]) == ["stem", "layer1", "layer2", "layer3", "layer4", "fc"]
    natural, target = record["stages"]
    source = run.parents[1] / "stages" / natural["key"] / "model.ckpt"
    before = torch.load(source, weights_only=True)["state_dict"]
    after = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    after = {key.removeprefix("network.net."): value for key, value in after.items()}
    assert [*target["carried"], *target["reinitialised"]] == list(before)
    assert target["blocks"]["frozen"] == ["stem", "layer1", "layer2"]
    frozen = {name for block in ("stem", "layer1", "layer2") for name in record["blocks"][block]}
    assert frozen == {*target["frozen"]}
    assert any(name.endswith("running_var") for name in frozen)
    assert {name for name in frozen if not torch.equal(before[name], after[name])} == set()
    moved = [name for name in before if "running_mean" in name and name not in frozen]
    assert moved
    assert all(not torch.equal(before[name], after[name]) for name in moved)


@pytest.mark.parametrize("augment", [True, False])  # without, features replace the images
def test_a_whole_training_and_a_resumed_one(start, tmp_path, monkeypatch, augment):
    words = [*NETWORK, f"domain.target.augment={augment}"]
    whole = start(tmp_path / "whole", *words).run()
    check(whole)
    original = SeedEpoch.on_train_epoch_start

    def kill(self, trainer, module):
        original(self, trainer, module)
        if trainer.max_epochs == 3 and trainer.current_epoch == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SeedEpoch, "on_train_epoch_start", kill)
        with pytest.raises(Killed):
            start(tmp_path / "killed", *words).run()
    resumed = start(tmp_path / "killed", *words).run()
    check(resumed)
    for name in ("predictions.csv", "validation.csv"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


@pytest.mark.slow
def test_two_devices(tmp_path):
    words = [*SMALL, *NETWORK, "trainer=ddp", "trainer.devices=2"]
    done = subprocess.run(
        [sys.executable, "train.py", *words, f"paths.outputs={tmp_path}"],
        cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in tmp_path.glob("runs/*/metrics.json"))
    check(run)
