"""The callback of `callbacks=feature_images`: it logs images while a stage is trained."""

import logging
from typing import cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from stagetransfer.errors import UserError
from stagetransfer.explain.image_grids import (
    first_filters,
    input_to_rgb,
    saliency_to_rgb,
    tiled_filters,
)
from stagetransfer.explain.saliency import METHODS, default_method
from stagetransfer.training.feature_cache import StageData, images_of
from stagetransfer.training.module import ClassifierModule

log = logging.getLogger(__name__)

_MAX_CLASSES = 16


class LogFeatureImages(pl.Callback):
    """Log the first convolution's filters, and maps of the feature map below their input images.

    The inputs are the first validation image of each class, for up to 16 classes. The maps are
    DeSaliNet's, or SaliNet's for a network with other activations than ReLU. Filters that are not
    of RGB images are left out.
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
        method = default_method(network, inputs[:1])
        maps = saliency_to_rgb(METHODS[method](network, inputs))
        both = np.concatenate([np.concatenate(list(row), axis=1) for row in (images, maps)])
        shown = {f"pictures/{method}_{network.feature_map}": both}
        name, weight = first_filters(network)
        try:
            shown[f"pictures/{name}"] = tiled_filters(weight)
        except UserError as error:
            log.warning("%s: %s", name, error)
        for tag, image in shown.items():
            loggers[0].experiment.add_image(
                tag, torch.from_numpy(image), trainer.global_step, dataformats="HWC"
            )
