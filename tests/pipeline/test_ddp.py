"""One run on two devices: two processes with gloo on the CPU train all stages and test once."""

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import SequentialSampler

from conftest import ONE_THREAD, REPOSITORY, SMALL, wait_for
from stagetransfer.cli import train
from stagetransfer.config.validate import validate_config
from stagetransfer.data.loader import EpochSampler, ProcessSampler
from stagetransfer.errors import UserError
from stagetransfer.files import read_json

COMMAND = [
    "+experiment=natural", "trainer=ddp", "trainer.devices=2", *SMALL,
    "recipe.epochs=3", "stage.natural.recipe.epochs=3",
]  # fmt: skip


@given(st.integers(1, 50), st.integers(1, 5))
def test_uneven_shares_contain_each_draw_once(draws, world):
    shares = [
        list(ProcessSampler(SequentialSampler(range(draws)), rank, world, even=False))
        for rank in range(world)
    ]
    assert sorted(index for share in shares for index in share) == list(range(draws))
    for rank, share in enumerate(shares):
        sampler = ProcessSampler(SequentialSampler(range(draws)), rank, world, even=False)
        assert len(sampler) == len(share)


@given(st.integers(5, 50), st.integers(1, 5), st.integers(0, 3))
def test_even_shares_have_equal_lengths_and_keep_the_order_of_the_epoch(draws, world, epoch):
    def sampler():
        return EpochSampler(torch.zeros(draws, dtype=torch.int64), seed=1)

    alone = sampler()
    alone.set_epoch(epoch)
    shares = []
    for rank in range(world):
        share = ProcessSampler(sampler(), rank, world, even=True)
        share.set_epoch(epoch)
        shares.append(list(share))
        assert len(share) == len(shares[-1]) == draws // world
    together = [index for step in zip(*shares, strict=True) for index in step]
    assert together == list(alone)[: draws // world * world]


def start(outputs, **options):
    return subprocess.Popen(
        [sys.executable, "train.py", *COMMAND, f"paths.outputs={outputs}"],
        cwd=REPOSITORY, env=ONE_THREAD, text=True, **options,
    )  # fmt: skip


def finish(outputs):
    process = start(outputs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, error = process.communicate(timeout=900)
    finally:
        process.kill()  # the other process ends with it
    assert process.returncode == 0, error
    (run,) = (path.parent for path in outputs.glob("runs/*/metrics.json"))
    return run, out


@pytest.mark.parametrize("grouped", [True, False])
def test_an_image_that_only_a_follower_cannot_read_ends_the_run(monkeypatch, capfd, grouped):
    """The leader would wait for it; before there is a group, the leader meets every error too."""
    ended = []

    def unreadable(cfg):
        raise UserError("/data/7.jpg: not an image")

    monkeypatch.setattr(train, "validate_config", unreadable)
    monkeypatch.setattr(train, "_WAIT_FOR_LEADER", 0)
    monkeypatch.setattr(train.logging, "disable", lambda level: None)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: grouped)
    monkeypatch.setattr(train.os, "_exit", ended.append)
    train._follow(None)
    assert ended == ([2] if grouped else [])
    assert ("/data/7.jpg: not an image" in capfd.readouterr().err) is grouped


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_two_devices_train_all_stages_and_the_test_counts_each_image_once(whole):
    run, out = whole
    metrics = read_json(run / "metrics.json")
    table = pd.read_csv(run / "predictions.csv")
    assert len(table) == metrics["num_test"]
    assert table.id.is_unique
    natural, target = metrics["stages"]
    assert [natural["name"], natural["reused"]] == ["natural", False]
    assert target["carried"][0] == "conv1.weight"
    assert (run.parents[1] / "stages" / natural["key"] / "DONE").is_file()
    assert not (run / "checkpoints" / "last.ckpt").exists()
    # Only one process prints: each epoch, and the summary, once.
    assert out.count("epoch 1/3") == 2
    assert out.count("tested on") == 1


@pytest.mark.slow
def test_the_run_name_depends_on_the_global_batch_size(whole, compose_config, tmp_path):
    from stagetransfer.pipeline.chain import ChainRunner

    overrides = [word for word in COMMAND if not word.startswith("trainer")]
    one = ChainRunner(validate_config(compose_config(*overrides, f"paths.outputs={tmp_path}")))
    assert one.folder.name != whole[0].name


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_run_killed_in_any_process_resumes_to_the_same_metrics(whole, tmp_path, victim):
    leader = start(tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def has_checkpoint():
        assert leader.poll() is None
        return list(tmp_path.glob("runs/*/checkpoints/last.ckpt"))

    wait_for(has_checkpoint, 600)
    with open(f"/proc/{leader.pid}/task/{leader.pid}/children") as file:
        (follower,) = map(int, file.read().split())
    os.kill(leader.pid if victim == "leader" else follower, signal.SIGKILL)
    leader.wait(60)
    wait_for(lambda: not os.path.exists(f"/proc/{follower}"))  # no process is left behind
    run, _ = finish(tmp_path)
    first, second = (read_json(folder / "metrics.json") for folder in (whole[0], run))
    assert first["test"] == second["test"]
    assert (run / "predictions.csv").read_bytes() == (whole[0] / "predictions.csv").read_bytes()
