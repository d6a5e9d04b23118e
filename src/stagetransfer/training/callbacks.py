"""Small callbacks: validation and best epoch, seeds, LP-FT, speed, learning rates, scaled start."""

import math
import operator
import random
import time
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch

from stagetransfer.data import DomainDataModule
from stagetransfer.data.images import Batch
from stagetransfer.models import fixed_modules, scale_outputs
from stagetransfer.seeding import derive
from stagetransfer.training.module import ClassifierModule


class BestEpoch(pl.Callback):
    """Remember the epoch with the best metric `monitor` (None: the last epoch) and its metrics.

    Training ends after `patience` epochs without improvement, or never with None. Lightning's
    EarlyStopping is not used because it forgets on resuming that it had stopped.
    """

    def __init__(self, monitor: str | None, lowest: bool, patience: int | None) -> None:
        self.monitor = monitor
        self.is_better = operator.lt if lowest else operator.gt
        self.patience = patience
        self.epoch = 0
        self.last_epoch = -1
        self.metrics: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_if_exhausted(trainer)  # a resumed training may already have ended

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        metrics = {
            name.removeprefix("validation/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        self.last_epoch = trainer.current_epoch
        best, new = (of.get(self.monitor or "", math.nan) for of in (self.metrics, metrics))
        if (
            not self.metrics
            or self.monitor is None
            or self.is_better(new, best)
            or (math.isnan(best) and not math.isnan(new))
        ):
            self.epoch, self.metrics = trainer.current_epoch, metrics
        self._stop_if_exhausted(trainer)

    def _stop_if_exhausted(self, trainer: pl.Trainer) -> None:
        if self.patience is not None and self.last_epoch - self.epoch >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "last_epoch": self.last_epoch, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


class LastValidation(pl.Callback):
    """Have the weights of the last step validated, also where no validation would come there.

    With `max_steps`, or an interval between validations that does not divide the epoch, Lightning
    would end after further steps, and the last validation would be of other weights.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if last_epoch or trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # before it stops, Lightning validates


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


class LinearProbe(pl.Callback):
    """Train only `blocks` for the first `epochs` of a stage, then all that are not frozen.

    This is LP-FT (linear probing, then fine-tuning; Kumar et al. 2022, arXiv 2202.10054) within
    one stage and one learning-rate schedule. The optimiser skips parameters without a gradient.
    The other blocks are fixed as frozen blocks are, without dropout and with buffers that stay.
    The epoch number alone decides which blocks are trained, so a resumed run behaves the same.
    """

    def __init__(self, blocks: Sequence[str], epochs: int) -> None:
        self.blocks = tuple(blocks)
        self.epochs = epochs
        self._others: list[str] | None = None  # modules of the other blocks

    # Lightning does not call on_train_epoch_start when it resumes within an epoch.
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        train_all = trainer.current_epoch >= self.epochs
        for group in trainer.optimizers[0].param_groups:  # frozen blocks are in no group
            for parameter in group["params"]:
                parameter.requires_grad_(train_all or group["block"] in self.blocks)
        network = cast(ClassifierModule, pl_module).network
        if self._others is None:
            others = [block for block in network.blocks if block not in self.blocks]
            self._others = fixed_modules(network, others)
        for name in self._others:  # after this, the module fixes what is frozen in all epochs
            network.net.get_submodule(name).training = train_all


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


class LogLearningRates(pl.Callback):
    """Log the learning rate of each block's weights at the start of each epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rates = {  # by their names, TensorBoard shows them after losses and validation metrics
            f"weight_learning_rate/{group['block']}": float(group["lr"])
            for group in trainer.optimizers[0].param_groups
            if group["name"].endswith(".weight")
        }
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=trainer.global_step)


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
