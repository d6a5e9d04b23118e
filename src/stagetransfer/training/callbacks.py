"""Callbacks of every stage, a job each: seeds, rates in the log, time and speed."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from stagetransfer.data.images import Batch
from stagetransfer.seeding import derive


class SeedEpoch(pl.Callback):
    """Seeds every global generator anew before each epoch, from (seed, epoch) alone.

    Dropout and augmentation of an epoch then do not depend on what was drawn before it: a run
    that was killed and resumed goes on as if nothing had happened.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        rank = trainer.global_rank  # other masks and flips in each process of DDP
        seed = derive(self.seed, "epoch", trainer.current_epoch, *([rank] if rank else []))
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)


class LogRates(pl.Callback):
    """Logs the rate of each layer's weights at the start of each epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        rates = {
            f"rate/{group['name'].removesuffix('.weight')}": float(group["lr"])
            for group in trainer.optimizers[0].param_groups
            if group["name"].endswith(".weight")
        }
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=trainer.global_step)


class Clock(pl.Callback):
    """Seconds of the fit, and images per second of the training steps alone, across resumes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.training_seconds = 0.0
        self.images = 0
        self._fit_began = self._epoch_began = 0.0

    @property
    def images_per_second(self) -> float:
        """Training images over training time, data loading included; 0 before any."""
        return self.images / self.training_seconds if self.training_seconds else 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        self._fit_began = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        self._epoch_began = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Called by Lightning; the time runs from the end of one step to the end of the next."""
        now = time.perf_counter()
        self.training_seconds += now - self._epoch_began
        self._epoch_began = now
        self.images += len(batch.labels) * trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        """Goes into the checkpoint."""
        spent = time.perf_counter() - self._fit_began
        return {
            "seconds": self.seconds + spent,
            "training_seconds": self.training_seconds,
            "images": self.images,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes from the checkpoint."""
        vars(self).update(state_dict)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        self.seconds += time.perf_counter() - self._fit_began
