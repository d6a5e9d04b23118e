"""A callback that shows the progress of a stage: a bar on a terminal, else one line per epoch."""

import logging
import sys
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stagetransfer.training.measure_speed import MeasureSpeed

log = logging.getLogger(__name__)


class StageProgress(pl.Callback):
    """Show epoch, remaining time, images per second and validation metrics of a stage.

    On a terminal this is one progress bar per stage. Elsewhere (a log file, a cluster's job) it is
    one log line per epoch.

    Args:
        title: the stage's name in the output.
        speed: the callback that measures the images per second.
    """

    def __init__(self, title: str, speed: MeasureSpeed) -> None:
        self.title = title
        self.speed = speed
        self.metrics = ""
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not sys.stdout.isatty():
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[epoch]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[metrics]}"),
        )
        self._bar = Progress(*columns, console=Console())
        steps = int(trainer.estimated_stepping_batches)
        self._bar.add_task(
            self.title, total=steps, completed=trainer.global_step, epoch="", metrics=""
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
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                completed=trainer.global_step,
                epoch=_epoch(trainer),
                metrics=f"{self.speed.images_per_second:.0f} img/s {self.metrics}",
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics
        self.metrics = (
            f"val: loss {value['validation/cross_entropy']:.3f}"
            f" acc {value['validation/accuracy']:.3f} recall {value['validation/recall']:.3f}"
        )
        if self._bar is None and trainer.is_global_zero:
            speed = self.speed.images_per_second
            log.info(
                "  %s epoch %s  %.0f img/s  %s", self.title, _epoch(trainer), speed, self.metrics
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop()  # restores the terminal

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _epoch(trainer: pl.Trainer) -> str:
    return f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
