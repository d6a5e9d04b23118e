"""The learning-rate range test (Smith 2017, arXiv 1506.01186), behind `recipe.optimizer.lr=auto`.

The learning rate grows exponentially from LOWEST to HIGHEST over STEPS optimiser steps, while the
training loss is watched. The suggestion is the rate at which the smoothed loss falls most steeply
per factor of the rate, as in fastai. On the embedded target it was 0.005 to 0.02 with `quick` and
0.0001 to 0.00015 with `modern` (the recipes have 0.015 and 0.0003). The other usual suggestion, a
tenth of the rate with the lowest loss, was 0.0009 to 0.007 and 0.00003 to 0.00007.

Lightning's `Tuner.lr_find` gives every parameter group the same rate, removes the callback that
seeds each epoch, and takes the slope per rate, which suggested less than 0.00001.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl

from stagetransfer.config.schema import Trainer
from stagetransfer.errors import UserError
from stagetransfer.training.fit import build_trainer
from stagetransfer.training.machine import quiet_lightning
from stagetransfer.training.module import ClassifierModule

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
SMOOTHING = 0.9  # weight of the past in the mean of the loss
STOP_ABOVE = 4.0  # times the lowest smoothed loss
SKIP = 10  # first steps, whose smoothed loss is the mean of too few losses to have a slope


class RangeTest(pl.Callback):
    """Raise the learning rate at each step, and remember the rates and the losses.

    The learning rate of a parameter group at the start of the training is its factor. Training
    stops when the smoothed loss is STOP_ABOVE times its lowest value, or not a finite number.
    """

    def __init__(self) -> None:
        self.rates = np.geomspace(LOWEST, HIGHEST, STEPS).tolist()
        self.losses: list[float] = []  # one per optimiser step
        self.factors: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.factors = [group["lr"] for group in trainer.optimizers[0].param_groups]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if len(self.losses) == trainer.global_step:  # not within accumulated gradients
            self.losses.append(0.0)
        groups = trainer.optimizers[0].param_groups
        for group, factor in zip(groups, self.factors, strict=True):
            group["lr"] = factor * self.rates[trainer.global_step]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses[-1] += float(outputs["loss"])
        if len(self.losses) > trainer.global_step:
            return
        smooth = smoothed(self.losses)
        if not math.isfinite(smooth[-1]) or smooth[-1] > STOP_ABOVE * min(smooth):
            trainer.should_stop = True


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the exponential means of the losses until each step, corrected for their start."""
    mean, result = 0.0, []
    for i, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        result.append(mean / (1 - SMOOTHING**i))
    return result


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate, of those before the lowest smoothed loss, at which it falls most steeply.

    The rates grow by the same factor at each step. None: there are too few losses, or the smoothed
    loss falls nowhere.
    """
    smooth = np.array(smoothed(losses))[SKIP:]
    if len(smooth) < 2:
        return None
    slopes = np.gradient(smooth)[: int(smooth.argmin()) + 1]
    steepest = int(slopes.argmin())
    return rates[SKIP + steepest] if slopes[steepest] < 0 else None


def range_test(
    module: ClassifierModule,
    data: pl.LightningDataModule,
    *,
    settings: Trainer,
    callbacks: Sequence[pl.Callback],
) -> dict[str, Any]:
    """Return the suggested learning rate and what was tried, as metrics.json holds it.

    Only training images are used, in the order and with the augmentation of the first epochs. The
    weights of the module are changed. UserError if the loss falls at no rate. The learning rates of
    the module's optimiser are the factors of the layers, without a schedule; `callbacks` are those
    that prepare the start of the training.
    """
    test = RangeTest()
    # The test has limits of its own; those of a training do not apply.
    own = replace(
        settings, max_steps=STEPS, max_time=None, min_epochs=None, min_steps=None,
        fast_dev_run=False, limit_val_batches=0,
    )  # fmt: skip
    trainer = build_trainer(own, max_epochs=-1, callbacks=[*callbacks, test], logger=False)
    with quiet_lightning():
        trainer.fit(module, datamodule=data)
    losses = test.losses if math.isfinite(test.losses[-1]) else test.losses[:-1]
    rate = suggest(test.rates, losses)
    if rate is None:
        raise UserError(
            "recipe.optimizer.lr=auto: the training loss fell at no learning rate of the range "
            "test. Give a number, for example recipe.optimizer.lr=0.001"
        )
    return {
        "lr": rate,
        "suggested_by": "range test",
        "tried": [*zip(test.rates, losses, strict=False)],
    }
