"""What a resumption needs: last.ckpt is saved regularly; if it is damaged, it is set aside."""

import logging
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from stagetransfer.data.loader import EpochSampler

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Save last.ckpt after a validation, and every few minutes within an epoch.

    Lightning's `ModelCheckpoint(save_top_k=0, save_last=True)` saves only at the end of training.
    Its checkpoints also lack what a training needs to continue within an epoch: which images the
    epoch has used, and the state of the random generators. These are part of this callback's state.

    It must come after all callbacks that have a state; Lightning keeps the order of checkpoint
    callbacks and calls them last. Each of several processes has random generators of its own, so
    nothing is saved there within an epoch.

    Args:
        folder: gets last.ckpt.
        pause_minutes: the time after each checkpoint in which a validation is followed by none, so
            that short epochs do not spend much of their time on writing. The first one is saved.
        every_minutes: the time after which the state is saved within an epoch; None: never.
    """

    def __init__(
        self, folder: Path, pause_minutes: float = 0.0, every_minutes: float | None = None
    ) -> None:
        self.path = folder / "last.ckpt"
        self.pause_minutes = pause_minutes
        self.every_minutes = every_minutes
        self._saved_at = time.monotonic()
        self._used = (0, 0)  # an epoch, from 0, and how many of its batches were used
        self._resumed: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (state := self._resumed) is None:
            return
        self._resumed = None
        loader: Any = trainer.train_dataloader
        if isinstance(loader.sampler, EpochSampler):
            epoch, batches = state["used"]
            loader.sampler.drawn = epoch, batches * loader.batch_size
            _restore_generators(state["generators"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._used = trainer.current_epoch, batch_idx + 1
        if self.every_minutes is None or trainer.is_last_batch:
            return
        if self._has_passed(self.every_minutes) and not (
            (batch_idx + 1) % trainer.accumulate_grad_batches
        ):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Gradients that are being accumulated are not part of a checkpoint.
        accumulating = self._used[1] % trainer.accumulate_grad_batches and not trainer.is_last_batch
        if trainer.sanity_checking or accumulating:
            return
        due = not self.path.is_file() or self._has_passed(self.pause_minutes)
        if trainer.strategy.broadcast(due):  # all processes save together: the first one decides
            self._save(trainer)

    def _has_passed(self, minutes: float) -> bool:
        return time.monotonic() - self._saved_at >= 60 * minutes

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.is_last_batch or trainer.world_size == 1:
            trainer.save_checkpoint(self.path)
            self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"used": self._used, "generators": _generators()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict


def _generators() -> dict[str, Any]:
    """Return the states of all global random generators, in types that need no unpickling."""
    _, numbers, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [torch.from_numpy(np.array(numbers)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_generators(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    numbers, *rest = states["numpy"]
    np.random.set_state(("MT19937", numbers.numpy(), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])


# What Lightning needs to continue a training.
_NEEDED = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch"}


def set_aside_damaged(folder: Path) -> None:
    """Rename the checkpoints of a stage whose training cannot continue, with a warning of one line.

    It cannot if last.ckpt is damaged or lacks something, or if the best.ckpt that last.ckpt counts
    on is damaged or missing. Only names and shapes are read, not the gigabytes of the tensors. Call
    it before anything asks whether there is a checkpoint. The names get the end `.damaged`.
    """
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    if not last.is_file():
        return
    content, reason = _content(last)
    damaged = last
    if not reason and (lacking := _NEEDED - content.keys()):
        reason = f"it lacks {min(lacking)}"
    if not reason and (
        best.is_file()
        or any(  # ModelCheckpoint had saved it
            isinstance(one, dict) and Path(one.get("best_model_path") or "").name == best.name
            for one in dict(content["callbacks"]).values()
        )
    ):
        damaged, reason = best, _content(best)[1]
    if not reason:
        return
    moved = [file for file in (last, best) if file.is_file()]
    names = ", ".join(file.replace(f"{file}.damaged").name for file in moved)
    log.warning("%s: damaged (%s); renamed: %s; the stage starts again", damaged, reason, names)


def _content(file: Path) -> tuple[Any, str]:
    """Return the content of a checkpoint, and what is wrong with it ("" if nothing is)."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True), ""
    except FileNotFoundError:
        return {}, "it is missing"
    except Exception as error:  # a damaged archive or pickle raises all kinds of errors
        return {}, type(error).__name__
