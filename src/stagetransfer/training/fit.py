"""One stage's training: a new Trainer, new callbacks, a new optimiser, its own checkpoints."""

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from stagetransfer.config.schema import Trainer
from stagetransfer.files import atomic_path
from stagetransfer.seeding import derive
from stagetransfer.training.best_epoch import BestEpoch
from stagetransfer.training.linear_probe import LinearProbe
from stagetransfer.training.log_learning_rates import LogLearningRates
from stagetransfer.training.machine import prepare_process, quiet_lightning
from stagetransfer.training.measure_speed import MeasureSpeed
from stagetransfer.training.module import ClassifierModule, TestResult
from stagetransfer.training.progress import StageProgress
from stagetransfer.training.seed_epoch import SeedEpoch
from stagetransfer.training.stage_transfer import StageTransfer, TransferRecord

if TYPE_CHECKING:
    from stagetransfer.training.feature_cache import StageData


@dataclass(frozen=True)
class Fitted:
    """What a stage's training left: its best checkpoint and what is to be recorded of it."""

    best: Path
    epochs: int
    best_epoch: int
    seconds: float
    images_per_second: float
    validation: dict[str, float]
    transfer: TransferRecord


def fit(
    module: ClassifierModule,
    data: pl.LightningDataModule,
    *,
    title: str,
    folder: Path,
    epochs: int,
    monitor: str,
    seed: int,
    settings: Trainer,
    transfer: StageTransfer | None,
    patience: int | None = None,
    probe_epochs: int = 0,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> Fitted:
    """Train a stage, or continue its training where `folder` holds its last checkpoint.

    Args:
        title: names the stage in what is shown.
        folder: gets best.ckpt (weights of the epoch with the best `monitor`) and last.ckpt.
        monitor: a validation figure; cross_entropy is best when lowest, all others when highest.
        seed: decides every random draw of the epochs.
        transfer: the transfer from the stage before, if there is one.
        patience: epochs without a better `monitor` after which the stage ends; None: never.
        probe_epochs: for so many epochs only the layers that `transfer` re-initialises are trained.
        loggers: Lightning's, for the curves.
        callbacks: the user's own.
    """
    lowest = monitor == "cross_entropy"
    best = ModelCheckpoint(
        folder,
        "best",
        monitor=f"validation/{monitor}",
        mode="min" if lowest else "max",
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    # Saved after validation, not at the end of the epoch: otherwise a resumed run differs.
    last = ModelCheckpoint(
        folder,
        save_top_k=0,
        save_last=True,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    speed, best_epoch = MeasureSpeed(), BestEpoch(monitor, lowest, patience)
    all_callbacks: list[pl.Callback] = [SeedEpoch(seed), speed, LogLearningRates(), best_epoch]
    all_callbacks += [StageProgress(title, speed), *([transfer] if transfer else []), best, last]
    if transfer and probe_epochs:
        all_callbacks.append(LinearProbe(transfer.reinitialise, probe_epochs))
    trainer = build_trainer(
        settings, max_epochs=epochs, callbacks=[*all_callbacks, *callbacks], logger=list(loggers)
    )
    resume = folder / "last.ckpt"
    with quiet_lightning():
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=resume if resume.is_file() else None,
            weights_only=True,
        )
    return Fitted(
        best=folder / "best.ckpt",
        epochs=best_epoch.last_epoch + 1,
        best_epoch=best_epoch.epoch + 1,
        seconds=speed.seconds,
        images_per_second=speed.images_per_second,
        validation=best_epoch.metrics,
        transfer=transfer.record if transfer else TransferRecord(),
    )


def network_state(checkpoint: Path) -> dict[str, Tensor]:
    """The network's tensors in one of `fit`'s checkpoints, under the network's own names."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in content.items()
        if name.startswith(prefix)
    }


def evaluate(
    module: ClassifierModule,
    data: StageData,
    settings: Trainer,
    *,
    split: str = "test",
    copies: int = 1,
    seed: int = 0,
) -> TestResult:
    """Run the test set, or another split, through the module.

    It always runs on one device: several would pad the set, and count some images twice.

    Args:
        copies: the probabilities are means over each image and `copies` - 1 random variants of it.
        seed: draws the variants.

    Returns:
        Rows in the domain's samples (N,), labels (N,), class probabilities (N, C).
    """
    total: NDArray[np.float64] | None = None
    for copy, shown in enumerate(data.evaluations(split, copies)):
        torch.manual_seed(derive(seed, "copy", copy))
        with quiet_lightning():
            build_trainer(replace(settings, devices=1), logger=False, callbacks=[]).test(
                module, datamodule=shown, verbose=False
            )
        rows, labels, probabilities = module.test_result()
        total = probabilities if total is None else total + probabilities
    assert total is not None
    return rows, labels, total / copies


def build_trainer(
    settings: Trainer, *, callbacks: Sequence[pl.Callback], logger: Any, max_epochs: int = 1
) -> pl.Trainer:
    """Return a Trainer with these settings and without Lightning's own terminal output.

    `fast_dev_run=n` runs one epoch of n batches, like Lightning's, but writes the checkpoints that
    the next stage and the test need.
    """
    prepare_process(keep_memory=settings.keep_memory)
    arguments = _lightning_arguments(settings)
    if batches := int(arguments.pop("fast_dev_run")):
        max_epochs = 1
        arguments |= dict.fromkeys(
            ("limit_train_batches", "limit_val_batches", "limit_test_batches"), batches
        )
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
            enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        )


def _lightning_arguments(settings: Trainer) -> dict[str, Any]:
    """Return the settings that are arguments of Lightning's Trainer and differ from its default."""
    names = inspect.signature(pl.Trainer).parameters
    values = {name: value for name, value in asdict(settings).items() if name in names}
    return {name: value for name, value in values.items() if value is not None}


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are complete or absent.

    Lightning writes them to the system's temporary folder and moves them: across file systems that
    is a copy, and a kill in its middle would leave half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Called by Lightning."""
        with atomic_path(Path(path)) as part:
            torch.save(checkpoint, part)
