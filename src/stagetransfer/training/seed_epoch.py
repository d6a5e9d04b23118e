"""A callback that makes each epoch's random draws independent of what was drawn before."""

import random

import numpy as np
import pytorch_lightning as pl
import torch

from stagetransfer.seeding import derive


class SeedEpoch(pl.Callback):
    """Seed every global random generator before each epoch from (seed, epoch) alone.

    Dropout and augmentation of an epoch then do not depend on earlier epochs, so a run that was
    killed and resumed gives the same result as one that was not. With several devices, each
    process has its own seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rank = trainer.global_rank
        seed = derive(self.seed, "epoch", trainer.current_epoch, *([rank] if rank else []))
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
