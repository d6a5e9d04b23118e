"""The schema of a run's settings: type, default and role of every key.

A key has one of three roles (see `stagetransfer.config.identity`):

* "decides": it decides the result and is part of the run's hash;
* "place": it says where the run stands in a sweep (ratio, seed); it decides the result too, but
  runs that differ in it belong together;
* "idle": it decides no result (paths, speed, what is shown), so runs that differ in it are equal.

The values are plain, so that they can be hashed, stored in checkpoints and written as YAML.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from stagetransfer.config.typed import as_boolean


def _setting(role: str, default: Any) -> Any:
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.deepcopy(default), metadata={"role": role})
    return field(default=default, metadata={"role": role})


def decides(default: Any = MISSING) -> Any:
    """Declare a key that decides the result."""
    return _setting("decides", default)


def place(default: Any = MISSING) -> Any:
    """Declare a key that says where a run stands in a sweep."""
    return _setting("place", default)


def idle(default: Any = MISSING) -> Any:
    """Declare a key that decides no result."""
    return _setting("idle", default)


@dataclass
class Model:
    """The network of every stage; see `stagetransfer.models.build_backbone`."""

    library: str = decides("alexnet")
    name: str | None = decides(None)  # of a network of torchvision or timm
    options: dict[str, Any] = decides({})  # further arguments of the library's network
    variant: str = decides("paper")  # of AlexNet, as the next two
    groups: int | None = decides(None)
    lrn_after_pool: bool | None = decides(None)
    input_size: int = decides(227)
    dropout: float = decides(0.5)
    initialisation: str = decides("gaussian")
    mean: list[float] = decides([0.485, 0.456, 0.406])
    std: list[float] = decides([0.229, 0.224, 0.225])


@dataclass
class Recipe:
    """How a stage is trained. `optimizer` and `scheduler` name a class and its keywords."""

    epochs: int = decides()
    batch_size: int = decides()
    optimizer: dict[str, Any] = decides()
    scheduler: dict[str, Any] | None = decides(None)
    scheduler_interval: str = decides("epoch")
    min_steps: int | None = decides(None)
    gradient_clip_norm: float | None = decides(None)
    label_smoothing: float = decides(0.0)
    bias_rate: float = decides(1.0)
    bias_decay: bool = decides(False)
    norm_decay: bool = decides(True)
    balance: str = decides("none")
    monitor: str = decides("cross_entropy")
    patience: int | None = decides(None)
    search_rates: list[float] = decides([])
    search_epochs: list[int] = decides([])


@dataclass
class Transfer:
    """What happens to the network when a stage starts from the one before."""

    reinitialise: list[str] | None = decides(None)  # None: the network's own classifier
    mode: str = decides("full")
    tune_from: str | None = decides(None)
    rates: list[Any] = decides([])
    probe_epochs: int = decides(0)
    rate_decay: float | None = decides(None)
    search: Any = decides([])  # blocks, or "all"

    @property
    def freezes(self) -> bool:
        """Whether some of the network is not tuned."""
        return self.mode == "frozen" or self.tune_from is not None


@dataclass
class Trainer:
    """The device, and the arguments of Lightning's Trainer.

    The fields after `checkpoint_every_minutes` are passed to the Trainer as they are; None means
    Lightning's own default.
    """

    accelerator: str = idle("auto")
    devices: int = decides(1)  # times recipe.batch_size: the global batch
    precision: str = decides("auto")
    channels_last: bool = decides(True)
    winograd: bool = decides(True)
    keep_memory: bool = idle(True)
    deterministic: Any = decides("warn")
    frozen_features_gib: float = decides(16.0)  # of stages that can use the cache
    checkpoint_pause_minutes: float = idle(0.5)
    checkpoint_every_minutes: float | None = idle(None)
    strategy: str | None = decides(None)
    fast_dev_run: Any = decides(False)
    min_epochs: int | None = decides(None)
    max_steps: int | None = decides(None)
    min_steps: int | None = decides(None)
    max_time: Any = decides(None)
    limit_train_batches: Any = decides(None)
    limit_val_batches: Any = decides(None)
    limit_test_batches: Any = decides(None)
    overfit_batches: Any = decides(None)
    val_check_interval: Any = decides(None)
    check_val_every_n_epoch: int | None = decides(None)
    num_sanity_val_steps: int = idle(0)
    log_every_n_steps: int = idle(10)
    accumulate_grad_batches: int | None = decides(None)
    benchmark: bool | None = decides(None)
    inference_mode: bool | None = idle(None)
    profiler: str | None = idle(None)
    detect_anomaly: bool | None = idle(None)
    sync_batchnorm: bool | None = decides(None)
    reload_dataloaders_every_n_epochs: int | None = idle(None)
    enable_model_summary: bool = idle(False)

    def __post_init__(self) -> None:
        if self.deterministic != "warn":
            self.deterministic = as_boolean(self.deterministic, "trainer.deterministic", " or warn")
        if type(self.fast_dev_run) is not int or self.fast_dev_run < 0:  # not a number of batches
            other = ", or the number of batches"
            self.fast_dev_run = as_boolean(self.fast_dev_run, "trainer.fast_dev_run", other)


@dataclass
class Paths:
    """Where results are written."""

    outputs: str = idle("outputs")


@dataclass
class TopLevel:
    """The keys of a run's config outside of the groups."""

    chain: list[str] = decides(["target"])
    condition: str | None = idle(None)
    ratio: float = place(1.0)
    ratio_by: str = decides("image")
    test_copies: int = decides(1)
    teacher: list[str] = place([])
    seed: int = place(0)
    source_seed: int = place(0)
    force: bool = idle(False)
    keep: str = idle("best")
    stage: dict[str, Any] = decides({})
    domain: dict[str, Any] = decides({})
    callbacks: dict[str, Any] = decides({})
    logger: dict[str, Any] = idle({})


@dataclass
class Config(TopLevel):
    """The whole config of a run, as `conf/config.yaml` composes it."""

    model: Model = field(default_factory=Model, metadata={"role": "decides"})
    recipe: Recipe = field(default_factory=Recipe, metadata={"role": "decides"})
    transfer: Transfer = field(default_factory=Transfer, metadata={"role": "decides"})
    trainer: Trainer = field(default_factory=Trainer, metadata={"role": "decides"})
    paths: Paths = field(default_factory=Paths, metadata={"role": "idle"})


# The first entry of the defaults in conf/config.yaml.
ConfigStore.instance().store(name="schema", node=Config, provider="stagetransfer")


@dataclass(frozen=True)
class Stage:
    """One training (or loading) of the chain; `domain` is its config, ready to be built."""

    name: str
    domain: dict[str, Any]
    recipe: Recipe
    transfer: Transfer | None  # None for the first stage
    seed: int
    is_target: bool  # it is tested; all others are sources
    require_learning: bool  # a stage that learned nothing is an error


@dataclass(frozen=True)
class RunConfig:
    """One chain at one ratio and one seed, checked."""

    condition: str
    stages: tuple[Stage, ...]
    ratio: float
    seed: int
    source_seed: int
    ratio_by: str
    test_copies: int
    teacher: tuple[str, ...]  # run folders whose probabilities take the place of the labels
    force: bool
    keep: str
    model: Model
    trainer: Trainer
    callbacks: dict[str, Any]  # name -> `_target_` and keywords of a Lightning callback
    logger: dict[str, Any]  # name -> `_target_` and keywords of a Lightning logger
    outputs: Path
    tree: dict[str, Any]  # the whole config, resolved; written beside the run

    @property
    def chain(self) -> tuple[str, ...]:
        """Return the names of the stages, in order."""
        return tuple(stage.name for stage in self.stages)
