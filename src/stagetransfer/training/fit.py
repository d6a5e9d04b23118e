"""Train or test one stage with a Trainer, callbacks, an optimiser and checkpoints of its own."""

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from stagetransfer.config.schema import Trainer
from stagetransfer.errors import UserError
from stagetransfer.files import atomic_path
from stagetransfer.seeding import derive
from stagetransfer.training.callbacks import (
    BestEpoch,
    LastValidation,
    LinearProbe,
    LogLearningRates,
    MeasureSpeed,
    SeedEpoch,
)
from stagetransfer.training.carry_or_reinitialise import StageTransfer, TransferRecord
from stagetransfer.training.last_checkpoint import LastCheckpoint
from stagetransfer.training.machine import prepare_process, quiet_lightning
from stagetransfer.training.module import ClassifierModule, TestResult
from stagetransfer.training.progress import StageProgress
from stagetransfer.training.watch_losses import Losses, WatchLosses

if TYPE_CHECKING:
    from stagetransfer.training.feature_cache import StageData


@dataclass(frozen=True)
class Fitted:
    """The result of a stage's training."""

    best: Path  # the checkpoint of the chosen epoch
    epochs: int
    best_epoch: int  # the chosen epoch, from 1
    seconds: float
    images_per_second: float
    validation: dict[str, float]
    losses: Losses
    transfer: TransferRecord
    learning_rate: dict[str, Any] | None = None  # what a range test tried and found


def fit(
    module: ClassifierModule,
    data: pl.LightningDataModule,
    *,
    title: str,
    folder: Path,
    epochs: int,
    seed: int,
    settings: Trainer,
    transfer: StageTransfer | None,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
    later: int | None = None,
) -> Fitted:
    """Train a stage, or continue its training if `folder` holds its last checkpoint.

    The best epoch is chosen by the recipe's `monitor`: lower values of cross_entropy are better,
    higher ones of all other metrics.

    Args:
        title: the stage's name in the progress output.
        folder: gets best.ckpt (weights of the chosen epoch) and last.ckpt.
        epochs: at least those of the recipe; the epochs of linear probing are in proportion.
        seed: decides the random numbers of every epoch.
        later: number of images of the later stages, for the time left; see `StageProgress`.
    """
    recipe = module.recipe
    choose, lowest = recipe.monitor != "last", recipe.monitor == "cross_entropy"
    # Saved after validation, not at the end of the epoch: otherwise a resumed run differs.
    files: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": False}
    speed, losses = MeasureSpeed(), WatchLosses()
    best_epoch = BestEpoch(recipe.monitor if choose else None, lowest, recipe.patience)
    all_callbacks: list[pl.Callback] = [SeedEpoch(seed), speed, LogLearningRates(), best_epoch]
    all_callbacks += [LastValidation(), losses, StageProgress(title, speed, later)]
    all_callbacks += [transfer] if transfer else []
    if choose:
        name, mode = f"validation/{recipe.monitor}", "min" if lowest else "max"
        all_callbacks.append(
            ModelCheckpoint(
                folder, "best", monitor=name, mode=mode, save_weights_only=True, **files
            )
        )
    all_callbacks.append(
        LastCheckpoint(folder, settings.checkpoint_pause_minutes, settings.checkpoint_every_minutes)
    )
    probed = module.transfer.probe_epochs if module.transfer else 0
    if transfer and (probe_epochs := round(probed * epochs / recipe.epochs)):
        all_callbacks.append(LinearProbe(transfer.reinitialise, probe_epochs))
    trainer = build_trainer(
        settings, max_epochs=epochs, callbacks=[*all_callbacks, *callbacks], logger=list(loggers)
    )
    resume = folder / "last.ckpt" if (folder / "last.ckpt").is_file() else None
    with quiet_lightning():
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        if choose and (folder / "best.ckpt").is_file():
            _check_epoch(folder / "best.ckpt", best_epoch.epoch)
        else:
            trainer.save_checkpoint(folder / "best.ckpt", weights_only=True)
    return Fitted(
        best=folder / "best.ckpt",
        epochs=best_epoch.last_epoch + 1,
        best_epoch=best_epoch.epoch + 1,
        seconds=speed.seconds,
        images_per_second=speed.images_per_second,
        validation=best_epoch.metrics,
        losses=losses.losses,
        transfer=transfer.record if transfer else TransferRecord(),
    )


def _check_epoch(best: Path, epoch: int) -> None:
    """Raise UserError if the weights are of another epoch, from 0, than the one that was chosen."""
    # A killed training may have reached a better epoch after its last saved state. Where
    # computations are not deterministic, the resumed training need not reach it again.
    found = torch.load(best, map_location="cpu", weights_only=True, mmap=True)["epoch"]
    if found != epoch:
        raise UserError(
            f"{best}: its weights are of epoch {found + 1}, before the training was interrupted; "
            f"epoch {epoch + 1} is now the best one. Delete {best.parent} and run again"
        )


def network_state(checkpoint: Path) -> dict[str, Tensor]:
    """Return the network's state dict from a checkpoint that `fit` wrote."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network.net."
    return {k.removeprefix(prefix): v for k, v in content.items() if k.startswith(prefix)}


def evaluate(
    module: ClassifierModule,
    data: "StageData",
    settings: Trainer,
    *,
    split: str = "test",
    copies: int = 1,
    seed: int = 0,
) -> TestResult:
    """Test the module on the images of a split.

    The test always uses one device: several would pad the set and count some images twice. The
    probabilities are means over each image and `copies` - 1 random variants of it, which `seed`
    decides.
    """
    total: Any = 0.0
    for copy, images in enumerate(data.evaluations(split, copies)):
        torch.manual_seed(derive(seed, "copy", copy))
        alone = replace(settings, devices=1, strategy=None)
        trainer = build_trainer(alone, logger=False, callbacks=[])
        with quiet_lightning():
            trainer.test(module, datamodule=images, verbose=False)
        rows, labels, probabilities = module.test_result()
        total = total + probabilities
    return rows, labels, total / copies


def build_trainer(
    settings: Trainer, *, callbacks: Sequence[pl.Callback], logger: Any, max_epochs: int = 1
) -> pl.Trainer:
    """Return a Trainer with these settings and without Lightning's own terminal output.

    `fast_dev_run=n` runs one epoch of n batches, like Lightning's, but writes the checkpoints that
    the next stage and the test need.
    """
    prepare_process(keep_memory=settings.keep_memory)
    known = inspect.signature(pl.Trainer).parameters
    arguments = {k: v for k, v in asdict(settings).items() if k in known and v is not None}
    if batches := int(arguments.pop("fast_dev_run")):
        max_epochs = 1
        limits = ("limit_train_batches", "limit_val_batches", "limit_test_batches")
        arguments |= dict.fromkeys(limits, batches)
    arguments.setdefault("strategy", "ddp" if settings.devices > 1 else "auto")
    with quiet_lightning():
        return pl.Trainer(
            **arguments,
            use_distributed_sampler=False,  # the data module distributes its images itself
            plugins=[_AtomicCheckpoints()],
            max_epochs=max_epochs,
            callbacks=list(callbacks),
            logger=logger,
            enable_progress_bar=False,
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        )


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a file that `torch.load` reads, complete or not at all."""
    # Given a name instead of a file, PyTorch hides why it cannot write.
    with atomic_path(path) as part, part.open("wb") as file:
        torch.save(content, file)


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are complete or absent; Lightning moves them from a temporary folder.

    Between file systems a move is a copy, which a killed process would leave incomplete.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        write_checkpoint(checkpoint, Path(path))
