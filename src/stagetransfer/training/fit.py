"""One stage's training: a new Trainer, new callbacks, a new optimiser, its own checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from stagetransfer.config.schema import Trainer
from stagetransfer.files import atomic_path
from stagetransfer.seeding import derive
from stagetransfer.training.best_epoch import BestEpoch
from stagetransfer.training.callbacks import Clock, LogRates, SeedEpoch
from stagetransfer.training.linear_probe import Probe
from stagetransfer.training.machine import prepare_process, quiet_lightning
from stagetransfer.training.module import AlexNetModule, Tested
from stagetransfer.training.progress import StageProgress
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
    module: AlexNetModule,
    data: pl.LightningDataModule,
    *,
    title: str,
    folder: Path,
    tensorboard: Path,
    epochs: int,
    monitor: str,
    seed: int,
    settings: Trainer,
    transfer: StageTransfer | None,
    patience: int | None = None,
    probe_epochs: int = 0,
    more_callbacks: Sequence[pl.Callback] = (),
) -> Fitted:
    """Trains a stage, or goes on with it where `folder` holds its last checkpoint.

    Args:
        folder: holds best.ckpt (weights of the epoch with the best `monitor`) and last.ckpt.
        tensorboard: where the stage's scalars go.
        monitor: a validation figure; cross_entropy is best when lowest, all others when highest.
        seed: decides every random draw of the epochs.
        patience: epochs without a better `monitor` after which the stage ends; None: never.
        probe_epochs: so many epochs train only the layers that `transfer` makes anew.
        more_callbacks: the user's own.
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
    # After validation, not at the end of the epoch: else a resumed run differs.
    last = ModelCheckpoint(
        folder,
        save_top_k=0,
        save_last=True,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    clock, watch = Clock(), BestEpoch(monitor, lowest, patience)
    callbacks: list[pl.Callback] = [SeedEpoch(seed), clock, LogRates(), watch]
    callbacks += [StageProgress(title, clock), *([transfer] if transfer else []), best, last]
    if transfer and probe_epochs:
        callbacks.append(Probe(transfer.reinitialise, probe_epochs))
    callbacks += more_callbacks
    trainer = build_trainer(
        settings,
        max_epochs=epochs,
        callbacks=callbacks,
        logger=TensorBoardLogger(
            tensorboard.parent, name="", version=tensorboard.name, default_hp_metric=False
        ),
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
        epochs=watch.last + 1,
        best_epoch=watch.epoch + 1,
        seconds=clock.seconds,
        images_per_second=clock.images_per_second,
        validation=watch.figures,
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
    module: AlexNetModule,
    data: StageData,
    settings: Trainer,
    *,
    split: str = "test",
    copies: int = 1,
    seed: int = 0,
) -> Tested:
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
        rows, labels, probabilities = module.tested()
        total = probabilities if total is None else total + probabilities
    assert total is not None
    return rows, labels, total / copies


def build_trainer(
    settings: Trainer, *, callbacks: Sequence[pl.Callback], logger: Any, max_epochs: int = 1
) -> pl.Trainer:
    """A Trainer for the machine that `settings` tells, without Lightning's own terminal output."""
    prepare_process(keep_memory=settings.keep_memory)
    deterministic: Any = {"true": True, "false": False}.get(
        settings.deterministic.lower(), settings.deterministic
    )
    with quiet_lightning():
        return pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy="ddp" if settings.devices > 1 else "auto",
            use_distributed_sampler=False,  # the data module shares its images out itself
            plugins=[_WholeFiles()],
            precision=settings.precision,  # type: ignore[arg-type]
            deterministic=deterministic,
            max_epochs=max_epochs,
            callbacks=list(callbacks),
            logger=logger,
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        )


class _WholeFiles(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all.

    Lightning writes them to the system's temporary folder and moves them: across file systems that
    is a copy, and a kill in its middle would leave half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Called by Lightning."""
        with atomic_path(Path(path)) as part:
            torch.save(checkpoint, part)
