"""The transfer between two stages: carry features over, re-initialise the classifier, freeze."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from stagetransfer.models import LAYERS, AlexNet, copy_layers, initialise, layer_of
from stagetransfer.training.module import ClassifierModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferRecord:
    """Names of the parameters that were carried over, re-initialised and frozen."""

    carried: list[str] = field(default_factory=list)
    reinitialised: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)  # some of the carried ones


class StageTransfer(pl.Callback):
    """Start a stage from the features of the stage before it.

    By default all layers but the classifier (fc7, fc8) are carried over, the classifier is
    re-initialised, and then the whole network is trained (Suzuki et al. 2018, arXiv 1810.06282).
    When training resumes from its own checkpoint, only the freezing is repeated, because the
    checkpoint holds the weights.

    Args:
        source: state dict of the stage before, with `AlexNet`'s parameter names.
        reinitialise: the layers to re-initialise; all others are carried over.
        frozen: the layers that are not trained; none of them may be re-initialised.
        scheme, seed: of the new weights; see `stagetransfer.models.initialise`.
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
        """Change the network before the optimiser is built, and log what was done."""
        if stage != "fit" or self.source is None:
            return
        module = cast(ClassifierModule, pl_module)
        resuming = trainer.ckpt_path is not None
        self.record = self.apply(module.network, only_freeze=resuming)
        module.set_frozen_layers(self.frozen)
        self.source = None  # frees some 230 MB
        layers = [
            ", ".join(dict.fromkeys(map(layer_of, names))) or "none"
            for names in vars(self.record).values()
        ]
        title = "resumed" if resuming else "transfer"
        log.info("  %s: carried over %s; re-initialised %s; frozen %s", title, *layers)

    def apply(self, network: AlexNet, *, only_freeze: bool = False) -> TransferRecord:
        """Change `network` and return what was done."""
        if not only_freeze:
            assert self.source is not None
            carried = [layer for layer in LAYERS if layer not in self.reinitialise]
            copy_layers(network, self.source, carried)
            generator = torch.Generator().manual_seed(self.seed)
            initialise(network, self.scheme, self.reinitialise, generator)
        record = TransferRecord()
        for name, parameter in network.named_parameters():
            is_new = layer_of(name) in self.reinitialise
            (record.reinitialised if is_new else record.carried).append(name)
            if layer_of(name) in self.frozen:
                parameter.requires_grad_(False)
                record.frozen.append(name)
        return record
