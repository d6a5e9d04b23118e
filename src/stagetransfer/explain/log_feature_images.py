"""A callback that logs images of the features during training: callbacks=feature_images."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from stagetransfer.explain.colour_scales import coloured, plain
from stagetransfer.explain.desalinet import desalinet
from stagetransfer.explain.image_grids import tiled_filters
from stagetransfer.training.feature_cache import StageData, images_of
from stagetransfer.training.module import AlexNetModule

_MOST = 16  # classes; one image of each is shown


class LogFeatureImages(pl.Callback):
    """Log conv1's filters and DeSaliNet's images of pool5 below their inputs.

    The inputs are the first validation image of each class.

    Args:
        every_n_epochs: how often.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        self.every = every_n_epochs
        self._inputs: Tensor | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        epoch = trainer.current_epoch + 1
        logger = trainer.logger
        if epoch % self.every or not isinstance(logger, TensorBoardLogger):
            return
        network = cast(AlexNetModule, pl_module).network
        data = images_of(cast(StageData, trainer.datamodule))  # type: ignore[attr-defined]
        if self._inputs is None:
            labels = data.samples.labels[data.rows["validation"]]
            _, first = np.unique(labels, return_index=True)
            self._inputs = data.inputs("validation", first[:_MOST].tolist())
        inputs = self._inputs.to(pl_module.device)
        images = plain(inputs, data.mean, data.std)
        pictures = coloured(desalinet(network, inputs))
        both = np.concatenate([np.concatenate(list(row), axis=1) for row in (images, pictures)])
        filters = tiled_filters(network.get_parameter("conv1.weight"))
        board = logger.experiment
        for tag, page in (("pictures/desalinet_pool5", both), ("pictures/conv1", filters)):
            board.add_image(tag, torch.from_numpy(page), trainer.global_step, dataformats="HWC")
