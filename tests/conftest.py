"""What the tests share: the project's own config, composed as the door does, and small runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import settings
from omegaconf import DictConfig

from stagetransfer.config.validate import validate_config
from stagetransfer.pipeline.chain import ChainRunner

REPOSITORY = Path(__file__).parents[1]

# The real code on little data: every stage sees a few dozen images at AlexNet's smallest sizes.
SMALL = (
    "model.input_size=67",
    "recipe.epochs=2",
    "recipe.batch_size=16",
    "+domain.natural.options.per_class=8",
    "+domain.texture.options.per_class=20",
    "+domain.target.options.scale=0.15",
    "trainer.accelerator=cpu",
)

Compose = Callable[..., DictConfig]

# A busy machine is no failure: speed is shown by benchmarks, never asserted.
settings.register_profile("stagetransfer", deadline=None)
settings.load_profile("stagetransfer")


@pytest.fixture(scope="session")
def compose_config() -> Compose:
    """Composes `conf/config.yaml` with overrides."""

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            return compose("config", overrides=list(overrides))

    return composed


@pytest.fixture(scope="session")
def start(compose_config: Compose) -> Callable[..., ChainRunner]:
    """A small run in a folder of outputs, with overrides: not yet begun."""

    def started(outputs: Path, *overrides: str) -> ChainRunner:
        asked = [*SMALL, f"paths.outputs={outputs}", *overrides]
        return ChainRunner(validate_config(compose_config(*asked)))

    return started


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    """Two cores in all: one for each of pytest-xdist's two processes, else both."""
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
