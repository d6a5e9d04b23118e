"""A callback that remembers the chosen epoch and ends training when no better one comes."""

import operator
from typing import Any

import pytorch_lightning as pl


class BestEpoch(pl.Callback):
    """Remember the epoch with the best validation metric `monitor`, and all metrics of it.

    Without a `monitor` it is the last epoch.

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
        best = self.metrics.get(self.monitor or "")
        if best is None or self.monitor is None or self.is_better(metrics[self.monitor], best):
            self.epoch, self.metrics = trainer.current_epoch, metrics
        self._stop_if_exhausted(trainer)

    def _stop_if_exhausted(self, trainer: pl.Trainer) -> None:
        if self.patience is not None and self.last_epoch - self.epoch >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "last_epoch": self.last_epoch, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)
