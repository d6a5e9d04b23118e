"""A callback that shows the progress of a stage: a bar on a terminal, else one line per epoch."""

import logging
import sys
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from stagetransfer.training.callbacks import MeasureSpeed

log = logging.getLogger(__name__)


class StageProgress(pl.Callback):
    """Show epoch, remaining time, images per second and validation metrics of a stage.

    On a terminal this is one progress bar per stage. Elsewhere (a log file, a cluster's job) it is
    one log line per epoch. `speed` measures the images per second.
    """

    def __init__(self, title: str, speed: MeasureSpeed) -> None:
        self.title = title
        self.speed = speed
        self.metrics = ""
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not sys.stdout.isatty():
            return
        bar, remaining = BarColumn(bar_width=16), TimeRemainingColumn(compact=True)
        epoch, metrics = "{task.fields[epoch]}", "{task.fields[metrics]}"
        columns = ("{task.description}", bar, epoch, remaining, metrics)
        self._bar = Progress(*columns, console=Console())
        steps, done = int(trainer.estimated_stepping_batches), trainer.global_step
        self._bar.add_task(self.title, total=steps, completed=done, epoch="", metrics="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is not None:
            metrics = f"{self.speed.images_per_second:.0f} img/s {self.metrics}"
            task, done = self._bar.task_ids[0], trainer.global_step
            self._bar.update(task, completed=done, epoch=_epoch(trainer), metrics=metrics)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        value = trainer.callback_metrics
        self.metrics = (
            f"val: loss {value['validation/cross_entropy']:.3f}"
            f" acc {value['validation/accuracy']:.3f} recall {value['validation/recall']:.3f}"
        )
        if self._bar is None and trainer.is_global_zero:
            shown = (self.title, _epoch(trainer), self.speed.images_per_second, self.metrics)
            log.info("  %s epoch %s  %.0f img/s  %s", *shown)

    def on_train_end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, *_: Any) -> None:
        self.on_train_end()  # restores the terminal


def _epoch(trainer: pl.Trainer) -> str:
    return f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
