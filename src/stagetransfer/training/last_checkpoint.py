"""A callback that saves the whole state of a training after every epoch, for a resumption."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint


class LastCheckpoint(Checkpoint):
    """Save last.ckpt after each validation: a killed training continues with the next epoch.

    Lightning's `ModelCheckpoint(save_top_k=0, save_last=True)` saves only at the end of training.
    It must come after all callbacks that have a state; Lightning keeps the order of checkpoint
    callbacks and calls them last.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)
