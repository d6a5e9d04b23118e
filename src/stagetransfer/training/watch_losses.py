"""A callback that remembers the losses of a training, and stops it when they are not numbers."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

CHECK_EVERY = 50  # steps; each check waits for the device


@dataclass(frozen=True)
class Losses:
    """The losses of a training, in nats."""

    first: float = math.nan  # of the training losses of single steps
    largest: float = math.nan
    last: float = math.nan  # the mean training loss of the last epoch
    validation: list[float] = field(default_factory=list)  # the cross-entropy of each epoch
    steps: int = 0  # of the optimiser
    diverged_in: int | None = None  # the epoch, from 1, in which a loss was not a finite number


class WatchLosses(pl.Callback):
    """Remember the first, the largest and the last training loss, and every validation loss.

    Training stops once a loss is infinite or not a number: no later step can repair the weights.
    The values are those of the first process. They survive a resumption.
    """

    def __init__(self) -> None:
        self.losses = Losses()
        self._losses: list[Tensor] = []  # of the steps of this epoch, on the device
        self._resumed: list[float] = []  # those from before a resumption within this epoch

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.losses.diverged_in is not None:  # before it was killed
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._losses, self._resumed = [], []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning has divided it for the accumulation of gradients.
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._losses.append(loss)
        # With several processes, one of them alone must not stop.
        if trainer.world_size == 1 and len(self._losses) % CHECK_EVERY == 0:
            self._stop_unless_finite(trainer, float(loss))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._summarise(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        loss = float(trainer.callback_metrics["validation/cross_entropy"])
        validation = [*self.losses.validation, loss]
        self.losses = replace(self.losses, validation=validation)
        self._stop_unless_finite(trainer, loss)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._summarise(trainer)

    def _summarise(self, trainer: pl.Trainer) -> None:
        if not self._of_epoch():
            return
        losses = torch.tensor(self._of_epoch())
        known = self.losses
        first = known.first if known.steps else float(losses[0])
        largest = float(losses.nan_to_num(nan=math.inf).max())
        self.losses = replace(
            known,
            first=first,
            largest=max(known.largest, largest) if known.steps else largest,
            last=float(losses.mean()),
            steps=trainer.global_step,
        )

    def _stop_unless_finite(self, trainer: pl.Trainer, loss: float) -> None:
        if not math.isfinite(loss) and self.losses.diverged_in is None:
            self.losses = replace(self.losses, diverged_in=trainer.current_epoch + 1)
        if self.losses.diverged_in is not None:
            trainer.should_stop = True

    def _of_epoch(self) -> list[float]:
        own = torch.stack(self._losses).float().tolist() if self._losses else []
        return [*self._resumed, *own]

    def state_dict(self) -> dict[str, Any]:
        return {"losses": asdict(self.losses), "of_epoch": self._of_epoch()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = Losses(**state_dict["losses"])
        self._resumed = state_dict["of_epoch"]
