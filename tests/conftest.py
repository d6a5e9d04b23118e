"""Shared by all tests: the project's own config, composed as in `train.py`, and small runs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import settings
from omegaconf import DictConfig

from stagetransfer.config.validate import validate_config
from stagetransfer.pipeline.chain import ChainRunner

REPOSITORY = Path(__file__).parents[1]

# A run on little data: every stage has a few dozen images, at the smallest input size of AlexNet.
# In two epochs nothing is learned, so that must be no error.
SMALL = (
    "model.input_size=67",
    "recipe.epochs=2",
    "recipe.batch_size=16",
    "recipe.min_steps=0",
    "trainer.checkpoint_pause_minutes=0",
    "++stage.natural.require_learning=false",
    "++stage.texture.require_learning=false",
    "+domain.natural.options.per_class=8",
    "+domain.texture.options.per_class=20",
    "+domain.target.options.scale=0.15",
    "trainer.accelerator=cpu",
)

Compose = Callable[..., DictConfig]
T = TypeVar("T")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes of pytest share two cores. A process that a test starts with a thread for each
    # core would wait for those of the other one, and be several times slower.
    os.environ["OMP_NUM_THREADS"] = "1"
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # the environment of processes side by side

# A slow machine is not a failure: speed is measured by benchmarks, never asserted in tests.
settings.register_profile("stagetransfer", deadline=None)
settings.load_profile("stagetransfer")


def wait_for(condition: Callable[[], T], seconds: float = 120) -> T:
    """Wait until the condition returns a true value, and return this value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not true after {seconds} s"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="session")
def compose_config() -> Compose:
    """A function that composes `conf/config.yaml` with overrides."""

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            return compose("config", overrides=list(overrides))

    return composed


@pytest.fixture(scope="session")
def start(compose_config: Compose) -> Callable[..., ChainRunner]:
    """A function that prepares a small run in an outputs folder, without starting it."""

    def started(outputs: Path, *overrides: str) -> ChainRunner:
        overrides = (*SMALL, f"paths.outputs={outputs}", *overrides)
        return ChainRunner(validate_config(compose_config(*overrides)))

    return started


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A function that mounts a small disk, such as "size=1m", or changes its options; for root."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        again = "remount," if folder.is_mount() else ""
        words = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        if (done := subprocess.run(words, capture_output=True, text=True)).returncode:
            pytest.skip(f"no disk of memory can be mounted: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    """Use two cores in all: one for each of pytest-xdist's two processes, or both without xdist."""
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
