"""Training and test of one stage in four ways, each in its own process."""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks import networks
from benchmarks.rounds import Gate
from benchmarks.sets import CLASSES, KINDS
from stagetransfer.config.schema import Recipe, Trainer
from stagetransfer.data import DomainDataModule, StageSettings
from stagetransfer.pipeline.stage_store import StageStore
from stagetransfer.training import ClassifierModule, use_image_cache
from stagetransfer.training.callbacks import LogLearningRates, MeasureSpeed, SeedEpoch
from stagetransfer.training.fit import build_trainer
from stagetransfer.training.machine import keep_freed_memory, quiet_lightning
from stagetransfer.training.progress import StageProgress

WORKERS = os.cpu_count() or 1


@dataclass(frozen=True)
class Case:
    """The settings that all candidates of one comparison share."""

    network: str
    data: str
    root: Path  # a data set written by `sets.make`
    batch: int
    images: int  # number of images per epoch; one epoch is one round
    precision: str = "32-true"
    cached: bool = False  # whether our images are read from the disk cache, and not decoded

    @property
    def size(self) -> int:
        """Return the side of the network's input in pixels."""
        return networks.settings(self.network).input_size


def ours(case: Case, gate: Gate) -> None:
    """Train a stage of the framework, with everything in an epoch except validation."""
    _train(_data(case), _module(case), case, gate)


def plain_lightning(case: Case, gate: Gate) -> None:
    """Train the reference's network, images and optimiser in a minimal LightningModule."""
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=gate.rounds,
            callbacks=[_RoundPerEpoch(gate)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(_Plain(networks.reference(case.network, CLASSES)), _loader(case, "train"))


def reference(case: Case, gate: Gate) -> None:
    """Train with the loop of torchvision's references/classification/train.py, in float32."""
    device = _device()
    network = networks.reference(case.network, CLASSES).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    loader = _loader(case, "train")
    for _ in gate:
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            scores = network(images)
            loss = F.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            (scores.argmax(1) == labels).float().mean().item()
            loss.item()


def ceiling(case: Case, gate: Gate) -> None:
    """Train our network and optimiser on one batch in memory: an upper bound of the speed."""
    keep_freed_memory()
    module = _module(case).to(_device()).train()
    images, labels = _fixed(case)
    optimizer: Any = _sgd()(module.parameters())
    for _ in gate:
        for _ in range(case.images // case.batch):
            with _autocast(case):
                loss = F.cross_entropy(module(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def our_test(case: Case, gate: Gate) -> None:
    """Test a stage of the framework: probabilities of every test image."""
    trainer = build_trainer(
        Trainer(precision=case.precision), callbacks=[_RoundPerEpoch(gate)], logger=False
    )
    module, data = _module(case), _data(case)
    with quiet_lightning():
        for _ in range(gate.rounds):
            trainer.test(module, datamodule=data, verbose=False)


def reference_test(case: Case, gate: Gate) -> None:
    """Test with `evaluate` of torchvision's references/classification/train.py."""
    device = _device()
    network = networks.reference(case.network, CLASSES).to(device).eval()
    loader = _loader(case, "test")
    with torch.inference_mode():
        for _ in gate:
            for images, labels in loader:
                scores = network(images.to(device))
                F.cross_entropy(scores, labels.to(device)).item()


def test_ceiling(case: Case, gate: Gate) -> None:
    """Test the network alone on one batch in memory: an upper bound of the speed."""
    keep_freed_memory()
    module = _module(case).to(_device()).eval()
    images, _ = _fixed(case)
    with torch.inference_mode(), _autocast(case):
        for _ in gate:
            for _ in range(case.images // case.batch):
                module(images)


class _RoundPerEpoch(pl.Callback):
    """Make one epoch one round."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.gate.begin()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.gate.end()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "test":  # before workers can load the first batches
            self.gate.begin()

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.gate.end()


class _Plain(pl.LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)


def _train(data: DomainDataModule, module: ClassifierModule, case: Case, gate: Gate) -> None:
    speed = MeasureSpeed()
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        trainer = build_trainer(
            Trainer(precision=case.precision),
            callbacks=[
                SeedEpoch(0),
                speed,
                LogLearningRates(),
                StageProgress("", speed),
                _RoundPerEpoch(gate),
            ],
            logger=TensorBoardLogger(folder, default_hp_metric=False),
            max_epochs=gate.rounds,
        )
        trainer.limit_val_batches = 0
        trainer.fit(module, datamodule=data)


def _module(case: Case) -> ClassifierModule:
    model = networks.settings(case.network)
    optimizer = {"_target_": "torch.optim.SGD", **_sgd().keywords}
    recipe = Recipe(epochs=1, batch_size=case.batch, optimizer=optimizer)
    return ClassifierModule(model, [f"class{i}" for i in range(CLASSES)], recipe)


def _sgd() -> Any:
    return functools.partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=5e-4, fused=True)


def _data(case: Case) -> DomainDataModule:
    kind = KINDS[case.data]
    data = DomainDataModule(
        StageSettings("benchmark", batch_size=case.batch, input_size=case.size),
        layout="folder",
        root=case.root,
        crop=kind.crop,
        workers=WORKERS,
        memory_limit_gib=4.0 if kind.held else 0.0,
        check_images=False,
    ).read()
    if case.cached:
        use_image_cache(data, StageStore(case.root.with_name("images")))
    return data


def _loader(case: Case, split: str) -> DataLoader[Any]:
    """Load images as the reference does; small images are only enlarged, as in our data module."""
    size = case.size
    steps: list[Any]
    if split == "train" and KINDS[case.data].crop:
        steps = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    elif KINDS[case.data].crop:
        steps = [transforms.Resize(256), transforms.CenterCrop(size)]
    else:
        bicubic = transforms.InterpolationMode.BICUBIC
        steps = [transforms.Resize((size, size), bicubic)]
        steps += [transforms.RandomHorizontalFlip()] if split == "train" else []
    steps += [
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    return DataLoader(
        datasets.ImageFolder(str(case.root / split), transforms.Compose(steps)),
        batch_size=case.batch,
        shuffle=split == "train",
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
    )


def _fixed(case: Case) -> tuple[Tensor, Tensor]:
    images = torch.randn(case.batch, 3, case.size, case.size, device=_device())
    labels = torch.randint(CLASSES, (case.batch,), device=_device())
    return images.to(memory_format=torch.channels_last), labels


def _autocast(case: Case) -> torch.autocast:
    return torch.autocast(_device().type, torch.bfloat16, enabled=case.precision.startswith("bf16"))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
