"""What the terminal shows while a stage is trained."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stagetransfer.training.callbacks import Clock

log = logging.getLogger(__name__)


class StageProgress(pl.Callback):
    """One bar a stage: epoch, time left, images per second, validation figures.

    Where the output is no terminal (a log file, a cluster's job) each epoch is a line instead.
    """

    def __init__(self, title: str, clock: Clock) -> None:
        self.title = title
        self.clock = clock
        self.figures = ""
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        if not trainer.is_global_zero or not sys.stdout.isatty():
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[epoch]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
        )
        self._bar = Progress(*columns, console=Console())
        steps = int(trainer.estimated_stepping_batches)
        self._bar.add_task(
            self.title, total=steps, completed=trainer.global_step, epoch="", figures=""
        )
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Called by Lightning."""
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                completed=trainer.global_step,
                epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
                figures=f"{self.clock.images_per_second:.0f} img/s {self.figures}",
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        value = trainer.callback_metrics
        self.figures = (
            f"val: loss {value['validation/cross_entropy']:.3f}"
            f" acc {value['validation/accuracy']:.3f} recall {value['validation/recall']:.3f}"
        )
        if self._bar is None and trainer.is_global_zero:
            log.info(
                "  %s epoch %d/%s  %.0f img/s  %s",
                self.title,
                trainer.current_epoch + 1,
                trainer.max_epochs,
                self.clock.images_per_second,
                self.figures,
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Called by Lightning; leaves the terminal as it was."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
