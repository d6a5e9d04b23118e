"""The best epoch so far, and whether it is worth going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl


class BestEpoch(pl.Callback):
    """Remembers the epoch and the figures of the best checkpoint, across resumes.

    With `patience`, training ends when so many epochs have not been better. Lightning's
    EarlyStopping forgets on resuming that it had stopped, and trains on.
    """

    def __init__(self, monitor: str, lowest: bool, patience: int | None) -> None:
        self.monitor = monitor
        self.better: Callable[[float, float], bool] = (
            (lambda a, b: a < b) if lowest else (lambda a, b: a > b)
        )
        self.patience = patience
        self.epoch = 0
        self.last = -1
        self.figures: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning; a resumed training may have come to its end already."""
        self._stop(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning."""
        now = {
            name.removeprefix("validation/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        self.last = trainer.current_epoch
        if not self.figures or self.better(now[self.monitor], self.figures[self.monitor]):
            self.epoch, self.figures = trainer.current_epoch, now
        self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        if self.patience is not None and self.last - self.epoch >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Goes into the checkpoint."""
        return {"epoch": self.epoch, "last": self.last, "figures": self.figures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes from the checkpoint."""
        vars(self).update(state_dict)
