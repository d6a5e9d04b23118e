"""A callback that shows the progress of a stage: a bar on a terminal, else one line per epoch."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from stagetransfer.terminal import clock
from stagetransfer.training.callbacks import MeasureSpeed

log = logging.getLogger(__name__)


class StageProgress(pl.Callback):
    """Show epoch, time left, images per second and validation metrics of a stage.

    On a terminal this is one progress bar per stage. Elsewhere (a log file, a cluster's job) it is
    one log line per epoch. `speed` measures the images per second. `later` is the number of images
    that the later stages of the chain will be trained on, counted once per epoch; None: unknown.
    The time left for the chain supposes that they are trained as fast as those of this stage.
    """

    def __init__(self, title: str, speed: MeasureSpeed, later: int | None = None) -> None:
        self.title = title
        self.speed = speed
        self.later = later
        self.metrics: dict[str, str] = {}
        self._bar: Progress | None = None
        self._began = (0.0, 0, 0)  # time, step and images at the start

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.monotonic(), trainer.global_step, self.speed.images
        if not trainer.is_global_zero or not sys.stdout.isatty():
            return
        shown = TextColumn("{task.fields[shown]}", table_column=Column(no_wrap=True))
        columns = ("{task.description}", BarColumn(bar_width=8), "{task.fields[epoch]}", shown)
        self._bar = Progress(*columns, console=Console())
        steps, done = int(trainer.estimated_stepping_batches), trainer.global_step
        self._bar.add_task(self.title, total=steps, completed=done, epoch="", shown="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is not None:
            self._update(self._bar, trainer, _epoch(trainer), self._left(trainer))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        names = {"loss": "cross_entropy", "acc": "accuracy", "recall": "recall"}
        values = trainer.callback_metrics
        self.metrics = {k: f"{values[f'validation/{name}']:.3f}" for k, name in names.items()}
        if self._bar is None and trainer.is_global_zero:
            metrics = " ".join(map(" ".join, self.metrics.items()))
            shown = (self.title, _epoch(trainer), self.speed.images_per_second, metrics)
            log.info("  %s epoch %s  %.0f img/s  val: %s  %s", *shown, self._left(trainer))

    def _left(self, trainer: pl.Trainer) -> str:
        """Return the time that is left, from the speed since the start of this process."""
        began, first, images = self._began
        seconds, done = time.monotonic() - began, trainer.global_step - first
        if not done:  # gradients are still being accumulated
            return "left: unknown"
        stage = (int(trainer.estimated_stepping_batches) - trainer.global_step) * seconds / done
        text = f"left: stage {clock(stage)}"
        if self.later:
            chain = stage + self.later * seconds / (self.speed.images - images)
            text += f", chain {clock(chain)}"
        return text

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            took = clock(time.monotonic() - self._began[0])
            done = f"{trainer.current_epoch}/{trainer.max_epochs}"
            self._update(self._bar, trainer, done, f"took {took}")
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()  # restores the terminal

    def _update(self, bar: Progress, trainer: pl.Trainer, epoch: str, when: str) -> None:
        short = [f"{name} {self.metrics[name]}" for name in ("acc", "loss") if self.metrics]
        shown = ", ".join([when, *short])
        bar.update(bar.task_ids[0], completed=trainer.global_step, epoch=epoch, shown=shown)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _epoch(trainer: pl.Trainer) -> str:
    return f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
