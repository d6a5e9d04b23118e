"""The transfer between two stages: carry features over, re-initialise the classifier, freeze."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytorch_lightning as pl
from torch import Tensor

from stagetransfer.models import Backbone, copy_blocks
from stagetransfer.training.module import ClassifierModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferRecord:
    """What was carried over, re-initialised and frozen: names of parameters and buffers.

    `blocks` has the blocks that these are in, by "carried", "reinitialised" and "frozen".
    """

    carried: list[str] = field(default_factory=list)
    reinitialised: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)  # some of the carried ones
    blocks: dict[str, list[str]] = field(default_factory=dict)


class StageTransfer(pl.Callback):
    """Start a stage from the features of the stage before it.

    In Suzuki et al. 2018 (arXiv 1810.06282), AlexNet's last two layers are re-initialised, all
    others are carried over, and the whole network is trained. Buffers, such as the statistics of a
    BatchNorm, go with their block. When training resumes from its own checkpoint, only the freezing
    is repeated, because the checkpoint holds the weights.

    Args:
        source: state dict of the stage before, with the names of the network's tensors.
        reinitialise: the blocks to re-initialise; all others are carried over.
        frozen: the blocks that are not trained; none of them may be re-initialised.
        scheme, seed: of the new weights; see `stagetransfer.models.Backbone.initialise`.
    """

    def __init__(
        self,
        source: Mapping[str, Tensor],
        *,
        reinitialise: Sequence[str],
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
        module.set_frozen_blocks(self.frozen)
        self.source = None  # frees some 230 MB
        blocks = [", ".join(names) or "none" for names in self.record.blocks.values()]
        title = "resumed" if resuming else "transfer"
        log.info("  %s: carried over %s; re-initialised %s; frozen %s", title, *blocks)

    def apply(self, network: Backbone, *, only_freeze: bool = False) -> TransferRecord:
        """Change `network` and return what was done."""
        new = self.reinitialise
        if not only_freeze:
            assert self.source is not None
            copy_blocks(network, self.source, [one for one in network.blocks if one not in new])
            network.initialise(self.scheme, self.seed, new)
        record = TransferRecord()
        for name in network.state():
            is_new = network.block_of(name) in new
            (record.reinitialised if is_new else record.carried).append(name)
            if network.block_of(name) in self.frozen:
                record.frozen.append(name)
        for kind in ("carried", "reinitialised", "frozen"):
            names = map(network.block_of, getattr(record, kind))
            record.blocks[kind] = list(dict.fromkeys(names))
        for name, parameter in network.net.named_parameters():
            if network.block_of(name) in self.frozen:
                parameter.requires_grad_(False)
        return record
