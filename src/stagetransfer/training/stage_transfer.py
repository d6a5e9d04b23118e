"""What happens between two stages: carry the features, make the classifier anew, freeze."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from stagetransfer.models import LAYERS, AlexNet, carry, initialise, layer_of
from stagetransfer.training.module import AlexNetModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferRecord:
    """Names of the tensors that were carried, made anew, and frozen (a subset of the carried)."""

    carried: list[str] = field(default_factory=list)
    reinitialised: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)


class StageTransfer(pl.Callback):
    """Gives a stage's network the features of the stage before.

    Suzuki 2018: "the feature extractor is kept, the classifier (Fc7, Fc8) is initialised anew",
    and then the whole network is trained. When a fit resumes from its own checkpoint, the weights
    are those of the checkpoint: only the freezing is done again.

    Args:
        source: state dict of the stage before, under the names of `network.AlexNet`.
        reinitialise: layers made anew; all others are carried.
        frozen: layers that are not trained; none of them may be re-initialised.
        scheme: how the new layers are initialised.
        seed: draws them.

    Raises:
        UserError: on set-up, where `source` lacks a carried tensor or has another shape.
    """

    def __init__(
        self,
        source: Mapping[str, Tensor],
        *,
        reinitialise: Sequence[str] = ("fc7", "fc8"),
        frozen: Sequence[str] = (),
        scheme: str = "gaussian",
        seed: int = 0,
    ) -> None:
        self.source: Mapping[str, Tensor] | None = source
        self.reinitialise = tuple(reinitialise)
        self.frozen = tuple(frozen)
        self.scheme = scheme
        self.seed = seed
        self.record = TransferRecord()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Before the optimiser is built: carries, re-initialises, freezes and says so."""
        if stage != "fit" or self.source is None:
            return
        module = cast(AlexNetModule, pl_module)
        network = module.network
        resuming = trainer.ckpt_path is not None
        self.record = transfer(
            network,
            None if resuming else self.source,
            reinitialise=self.reinitialise,
            frozen=self.frozen,
            scheme=self.scheme,
            seed=self.seed,
        )
        module.fix(self.frozen)
        self.source = None  # 230 MB that a finished transfer has no use for
        log.info(
            "  %s: carried %s; anew %s; frozen %s",
            "resumed" if resuming else "transfer",
            *(_layers(names) for names in vars(self.record).values()),
        )


def transfer(
    network: AlexNet,
    source: Mapping[str, Tensor] | None,
    *,
    reinitialise: Sequence[str],
    frozen: Sequence[str],
    scheme: str,
    seed: int,
) -> TransferRecord:
    """Changes the network as `StageTransfer` says; with no source only freezes. The record."""
    if source is not None:
        carry(network, source, [layer for layer in LAYERS if layer not in reinitialise])
        generator = torch.Generator().manual_seed(seed)
        initialise(network, scheme, reinitialise, generator)
    record = TransferRecord()
    for name, parameter in network.named_parameters():
        anew = layer_of(name) in reinitialise
        (record.reinitialised if anew else record.carried).append(name)
        if layer_of(name) in frozen:
            parameter.requires_grad_(False)
            record.frozen.append(name)
    return record


def _layers(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(layer_of(name) for name in names)) or "none"
