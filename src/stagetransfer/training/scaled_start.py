"""A callback that scales new blocks to the training images before the first step (LSUV)."""

from collections.abc import Sequence
from typing import cast

import pytorch_lightning as pl

from stagetransfer.data import DomainDataModule
from stagetransfer.models import scale_outputs
from stagetransfer.training.module import ClassifierModule

NUM_IMAGES = 64


class ScaledStart(pl.Callback):
    """Call `stagetransfer.models.scale_outputs` for the blocks of a stage that have new weights.

    It must come after the transfer from the stage before, because the output of a new block depends
    on the blocks below it. A resumed training has its weights already and is left alone. The images
    are up to 64 of the training split, drawn by `seed`, without augmentation.
    """

    def __init__(self, data: DomainDataModule, blocks: Sequence[str], seed: int) -> None:
        self.data = data
        self.blocks = tuple(blocks)
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.ckpt_path is None:
            # The module is still on the CPU, though Lightning sets its `device` to the later one.
            images = self.data.some_inputs("train", NUM_IMAGES, self.seed)
            scale_outputs(cast(ClassifierModule, pl_module).network, images, self.blocks)
