"""The callback of `callbacks=feature_images`: it logs images while a stage is trained."""

from typing import cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from stagetransfer.explain.colour_scales import input_to_rgb, saliency_to_rgb
from stagetransfer.explain.image_grids import tiled_filters
from stagetransfer.explain.saliency import desalinet
from stagetransfer.training.feature_cache import StageData, images_of
from stagetransfer.training.module import ClassifierModule

_MAX_CLASSES = 16


class LogFeatureImages(pl.Callback):
    """Log conv1's filters, and DeSaliNet's maps of pool5 below their input images.

    The inputs are the first validation image of each class, for up to 16 classes.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        self.every_n_epochs = every_n_epochs
        self._inputs: Tensor | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the images to TensorBoard if it is this epoch's turn. Called by Lightning."""
        epoch = trainer.current_epoch + 1
        loggers = [one for one in trainer.loggers if isinstance(one, TensorBoardLogger)]
        if trainer.sanity_checking or epoch % self.every_n_epochs or not loggers:
            return
        network = cast(ClassifierModule, pl_module).network
        data = images_of(cast(StageData, trainer.datamodule))  # type: ignore[attr-defined]
        if self._inputs is None:
            labels = data.samples.labels[data.rows["validation"]]
            _, first = np.unique(labels, return_index=True)
            self._inputs = data.inputs("validation", first[:_MAX_CLASSES].tolist())
        inputs = self._inputs.to(pl_module.device)
        images = input_to_rgb(inputs, data.mean, data.std)
        maps = saliency_to_rgb(desalinet(network, inputs))
        both = np.concatenate([np.concatenate(list(row), axis=1) for row in (images, maps)])
        filters = tiled_filters(network.get_parameter("conv1.weight"))
        for tag, image in (("pictures/desalinet_pool5", both), ("pictures/conv1", filters)):
            loggers[0].experiment.add_image(
                tag, torch.from_numpy(image), trainer.global_step, dataformats="HWC"
            )
