"""Probe, then tune: the new layers learn first, on features that stay as they came."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl

from stagetransfer.models import layer_of


class Probe(pl.Callback):
    """For the first epochs only some layers are trained; then all that the transfer tunes.

    LP-FT of Kumar et al. 2022 (arXiv 2202.10054) within one stage: a layer without a gradient is
    passed over by the optimiser, so its rate and schedule are as they would be anyway. What the
    epoch is decides alone: a resumed run goes on as it would have.

    Args:
        layers: those that are trained from the start.
        epochs: for how many epochs the others wait.
    """

    def __init__(self, layers: Sequence[str], epochs: int) -> None:
        self.layers = tuple(layers)
        self.epochs = epochs

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        tuning = trainer.current_epoch >= self.epochs
        for group in trainer.optimizers[0].param_groups:  # the frozen layers are in none
            for parameter in group["params"]:
                parameter.requires_grad_(tuning or layer_of(group["name"]) in self.layers)
