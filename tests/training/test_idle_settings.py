"""Settings that are no part of the hash leave every byte of a result as it is."""

import dataclasses
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers.logger import DummyLogger

from conftest import REPOSITORY, SMALL
from stagetransfer.config.domain_settings import DomainSettings
from stagetransfer.config.identity import OBSERVERS, role_of
from stagetransfer.config.schema import Config
from stagetransfer.files import read_json
from stagetransfer.layouts import folder_index

# What each of them becomes; by default it is something else.
VALUES = {
    "condition": ["condition=another"],
    "logger": [f"+logger.own._target_={__name__}.RandomLogger"],
    "callbacks.feature_images": [
        "callbacks=feature_images", "callbacks.feature_images.every_n_epochs=1",
    ],
    "stage.target.require_learning": ["++stage.target.require_learning=false"],
    "trainer.checkpoint_pause_minutes": ["trainer.checkpoint_pause_minutes=10"],
    "trainer.checkpoint_every_minutes": ["trainer.checkpoint_every_minutes=0.01"],
    "trainer.num_sanity_val_steps": ["trainer.num_sanity_val_steps=2"],
    "trainer.log_every_n_steps": ["trainer.log_every_n_steps=1"],
    "trainer.inference_mode": ["trainer.inference_mode=false"],
    "trainer.profiler": ["trainer.profiler=simple"],
    "trainer.detect_anomaly": ["trainer.detect_anomaly=true"],
    "trainer.reload_dataloaders_every_n_epochs": ["trainer.reload_dataloaders_every_n_epochs=1"],
    "trainer.enable_model_summary": ["trainer.enable_model_summary=true"],
    "domain.target.root": ["domain.target.root={copy}"],
    "domain.target.split_file": ["domain.target.split_file={copy}.csv"],
    "domain.target.memory_limit_gib": ["domain.target.memory_limit_gib=0"],
    "domain.target.workers": [
        "domain.target.workers=2", "domain.target.memory_limit_gib=0",
        "domain.target.disk_limit_gib=0",
    ],
    "domain.target.disk_limit_gib": [
        "domain.target.memory_limit_gib=0", "domain.target.disk_limit_gib=1",
    ],
    "domain.target.device_memory_limit_gib": ["domain.target.device_memory_limit_gib=0"],
    "domain.target.index": ["domain.target.index=false"],
}  # fmt: skip
REASONS = {
    "keep": "removes the weights that are compared; test_kept_weights.py compares the predictions",
    "force": "says whether to run, not what",
    "paths.outputs": "differs in all runs of this test",
    "trainer.accelerator": "another device rounds in another way",
    "trainer.keep_memory": "decides for a whole process: a test of its own",
}  # fmt: skip


class RandomLogger(DummyLogger):
    """It draws from every generator whenever it is given metrics."""

    def log_metrics(self, *args, **kwargs):
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002


def keys_of(schema, place=""):
    for field in dataclasses.fields(schema):
        if dataclasses.is_dataclass(field.type):
            yield from keys_of(field.type, f"{place}{field.name}.")
        else:
            yield place + field.name


def test_every_idle_setting_is_tested_or_has_a_reason():
    keys = [*keys_of(Config), *keys_of(DomainSettings, "domain.target.")]
    keys += [f"callbacks.{name}" for name in OBSERVERS] + ["stage.target.require_learning"]
    assert "trainer.profiler" in keys
    assert sorted(key for key in keys if role_of(key) == "idle") == sorted([*VALUES, *REASONS])


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Patches of two classes and a split file, each twice; the settings of a run with all draws."""
    folder = tmp_path_factory.mktemp("data")
    made, rows = np.random.default_rng(0), ["file,split"]
    for i in range(96):
        path = folder / "one" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made.integers(0, 200 + 50 * (i % 2), (32, 32), dtype=np.uint8)).save(path)
        os.utime(path, (time.time() - 3600,) * 2)
        rows.append(f"{'ab'[i % 2]}/{i}.png,{('train', 'train', 'val', 'test')[i // 2 % 4]}")
    (folder / "one.csv").write_text("\n".join(rows))
    for path in (folder / "one", folder / "one" / "a", folder / "one" / "b"):
        os.utime(path, (time.time() - 3600,) * 2)
    shutil.copytree(folder / "one", folder / "copy")
    shutil.copyfile(folder / "one.csv", folder / "copy.csv")
    return [
        "+experiment=scratch", "domain/target=folder", f"domain.target.root={folder / 'one'}",
        f"domain.target.split_file={folder / 'one.csv'}", "domain.target.turn=true",
        "domain.target.crop=0.1", "model.dropout=0.5", "test_copies=2", "recipe.epochs=3",
        "~domain.target.options.scale",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def result(start, words, tmp_path_factory):
    """A function that runs with some settings and returns all that must be the same."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.setattr(folder_index, "MINIMUM", 1)

    def run(*overrides):
        copy = words[2].removeprefix("domain.target.root=").replace("one", "copy")
        filled = [word.format(copy=copy) for word in overrides]
        return bytes_of(start(tmp_path_factory.mktemp("out"), *words, *filled).run())

    yield run
    patch.undo()


def digest(content):
    return hashlib.sha256(content).hexdigest()


def bytes_of(folder):
    state = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    (stage,) = read_json(folder / "metrics.json")["stages"]
    return {
        "hash": folder.name[-8:],
        "tables": [(folder / f"{name}.csv").read_bytes() for name in ("predictions", "validation")],
        "weights": {name: digest(value.numpy().tobytes()) for name, value in state.items()},
        "stage": {key: value for key, value in stage.items() if "second" not in key},
    }


def check_same(one, other):
    assert [key for key in one if one[key] != other[key]] == []


@pytest.fixture(scope="module")
def plain(result):
    return result()


def test_all_idle_settings_at_once_leave_the_same_bytes(result, plain):
    check_same(plain, result(*{word: None for words in VALUES.values() for word in words}))


@pytest.mark.slow
@pytest.mark.parametrize("key", VALUES)
def test_an_idle_setting_leaves_the_same_bytes(result, plain, key):
    check_same(plain, result(*VALUES[key]))


@pytest.mark.slow
@pytest.mark.parametrize("word", ["trainer.winograd=false", "trainer.channels_last=false"])
def test_a_setting_that_rounds_in_another_way_is_part_of_the_hash(result, plain, word):
    other = result(word)
    assert other["hash"] != plain["hash"]
    assert other["tables"] != plain["tables"]


@pytest.mark.slow
def test_memory_that_is_kept_or_not_leaves_the_same_bytes(words, tmp_path):
    results = []
    for value in ("true", "false"):
        own = [f"trainer.keep_memory={value}", f"paths.outputs={tmp_path / value}"]
        command = [sys.executable, "train.py", *SMALL, *words, *own]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        results.append(bytes_of(next((tmp_path / value / "runs").glob("scratch-*"))))
    check_same(*results)
