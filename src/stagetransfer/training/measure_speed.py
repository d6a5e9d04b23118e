"""A callback that measures how long a stage takes and how fast it trains."""

import time
from typing import Any

import pytorch_lightning as pl

from stagetransfer.data.images import Batch


class MeasureSpeed(pl.Callback):
    """Measure the seconds of a stage and its training images per second, across resumes."""

    def __init__(self) -> None:
        self.seconds = 0.0  # wall-clock time of the fit, validation and checkpoints included
        self.training_seconds = 0.0  # of the training steps alone, data loading included
        self.images = 0  # training images seen on all devices
        self._fit_began = self._step_began = 0.0

    @property
    def images_per_second(self) -> float:
        """Training images per second of training time; 0 before the first step."""
        return self.images / self.training_seconds if self.training_seconds else 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fit_began = self._step_began = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step_began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.training_seconds += now - self._step_began
        self._step_began = now
        self.images += len(batch.labels) * trainer.world_size

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds += time.perf_counter() - self._fit_began

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds + time.perf_counter() - self._fit_began,
            "training_seconds": self.training_seconds,
            "images": self.images,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)
