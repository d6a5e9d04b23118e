"""What a run can be told, typed; plain values only, so that they go into hashes and checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from stagetransfer.names import LAYERS

# Marks a knob that came after the first runs. It is off (None, 0 or empty) by default, and then in
# no hash: the names of earlier runs still stand for what they did.
LATER = {"later": True}


@dataclass
class Model:
    """The network of every stage; see `stagetransfer.models.AlexNet`."""

    variant: str = "paper"
    groups: int | None = None
    lrn_after_pool: bool | None = None
    input_size: int = 227
    dropout: float = 0.5
    initialisation: str = "gaussian"
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])


@dataclass
class Recipe:
    """How a stage is trained. `optimizer` and `scheduler` are Hydra targets."""

    epochs: int
    batch_size: int
    optimizer: dict[str, Any]
    scheduler: dict[str, Any] | None = None
    scheduler_interval: str = "epoch"
    bias_rate: float = 1.0
    bias_decay: bool = False
    balance: str = "none"
    monitor: str = "cross_entropy"
    patience: int | None = field(default=None, metadata=LATER)


@dataclass
class Transfer:
    """What happens to the network when a stage begins with the one before."""

    reinitialise: list[str] = field(default_factory=lambda: ["fc7", "fc8"])
    mode: str = "full"
    tune_from: str | None = None
    rates: list[Any] = field(default_factory=list)
    probe_epochs: int = field(default=0, metadata=LATER)
    search: list[str] = field(default_factory=list, metadata=LATER)

    def frozen_layers(self) -> tuple[str, ...]:
        """The layers that are not tuned, in order."""
        if self.mode == "frozen":
            return tuple(name for name in LAYERS if name not in self.reinitialise)
        return LAYERS[: LAYERS.index(self.tune_from)] if self.tune_from else ()


@dataclass
class Trainer:
    """What Lightning's Trainer is told about the machine."""

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    channels_last: bool = True
    winograd: bool = True
    keep_memory: bool = True
    deterministic: str = "warn"
    frozen_features_gib: float = 16.0


def decisive(settings: Recipe | Transfer) -> dict[str, Any]:
    """What of these settings goes into a stage's hash."""
    off = {k.name for k in fields(settings) if k.metadata and not getattr(settings, k.name)}
    return {name: value for name, value in asdict(settings).items() if name not in off}


@dataclass(frozen=True)
class Stage:
    """One training (or loading) of the chain; `domain` is its config, ready to be built."""

    name: str
    domain: dict[str, Any]
    recipe: Recipe
    transfer: Transfer | None  # None for the first stage
    seed: int


@dataclass(frozen=True)
class RunConfig:
    """One chain at one ratio and one seed."""

    condition: str
    stages: tuple[Stage, ...]
    ratio: float
    seed: int
    source_seed: int
    ratio_by: str
    test_copies: int
    force: bool
    model: Model
    trainer: Trainer
    outputs: Path
    callbacks: dict[str, Any]  # name -> `_target_` and keywords of a Lightning callback
    tree: dict[str, Any]  # the whole config, resolved, kept beside the run

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(stage.name for stage in self.stages)
