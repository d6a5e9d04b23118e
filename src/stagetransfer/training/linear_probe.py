"""A callback for LP-FT: first train the new blocks alone, then all blocks."""

from collections.abc import Sequence

import pytorch_lightning as pl


class LinearProbe(pl.Callback):
    """Train only `blocks` for the first `epochs` of a stage, then all that are not frozen.

    This is LP-FT (linear probing, then fine-tuning; Kumar et al. 2022, arXiv 2202.10054) within
    one stage and one learning-rate schedule. The optimiser skips parameters without a gradient.
    The epoch number alone decides which blocks are trained, so a resumed run behaves the same.
    """

    def __init__(self, blocks: Sequence[str], epochs: int) -> None:
        self.blocks = tuple(blocks)
        self.epochs = epochs

    # Lightning does not call on_train_epoch_start when it resumes within an epoch.
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        train_all = trainer.current_epoch >= self.epochs
        for group in trainer.optimizers[0].param_groups:  # frozen blocks are in no group
            for parameter in group["params"]:
                parameter.requires_grad_(train_all or group["block"] in self.blocks)
