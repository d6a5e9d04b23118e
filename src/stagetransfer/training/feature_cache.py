"""What the fixed part of a network gives for every image, computed once and written to files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.config.schema import Trainer
from stagetransfer.data import DomainDataModule
from stagetransfer.training.fit import build_trainer
from stagetransfer.training.machine import quiet_lightning
from stagetransfer.training.module import ClassifierModule


def feature_shape(module: ClassifierModule) -> tuple[int, ...]:
    """Shape of one image's features, with channels last; see `ClassifierModule.predict_step`."""
    size = module.network.input_size
    module.eval()
    shape = module.features(torch.zeros(1, 3, size, size)).shape[1:]
    module.train()
    return tuple(shape) if len(shape) == 1 else (shape[1], shape[2], shape[0])


def write_features(
    module: ClassifierModule, data: DomainDataModule, settings: Trainer, folder: Path
) -> None:
    """Writes train.npy, validation.npy and, where there is a test set, test.npy: float32, a row
    for each of `data.whole`.

    The images go through the network batch by batch, as they do in a test, and the results
    straight to the files: memory holds one batch.
    """
    shape = feature_shape(module)
    arrays = [
        np.lib.format.open_memmap(
            folder / f"{split}.npy", mode="w+", dtype=np.float32, shape=(len(rows), *shape)
        )
        for split, rows in data.whole.items()
        if len(rows)
    ]
    trainer = build_trainer(replace(settings, devices=1), logger=False, callbacks=[_Writer(arrays)])
    with quiet_lightning():
        trainer.predict(module, datamodule=data, return_predictions=False)
    for array in arrays:
        array.flush()


class _Writer(pl.Callback):
    """Puts each batch's features at its place."""

    def __init__(self, arrays: list[np.memmap[Any, np.dtype[np.float32]]]) -> None:
        self.arrays = arrays
        self.written = [0] * len(arrays)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Called by Lightning."""
        features: Tensor = outputs
        start = self.written[dataloader_idx]
        end = start + len(features)
        self.arrays[dataloader_idx][start:end] = features.cpu().numpy()
        self.written[dataloader_idx] = end


def read_features(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The arrays that `write_features` left, as memory maps."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
