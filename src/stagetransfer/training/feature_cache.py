"""Features of frozen blocks: computed once for each image, stored, and used in its place.

The output of the frozen blocks depends only on the image. It is therefore computed once. Every
epoch reads it instead of the image, in runs with any seed, learning rate or ratio.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import LambdaCallback
from torch.utils.data import DataLoader, Dataset

from stagetransfer.config.identity import key_of
from stagetransfer.config.schema import Trainer
from stagetransfer.data import DomainDataModule
from stagetransfer.data.loader import EpochSampler, build_loader
from stagetransfer.models import NoSplit
from stagetransfer.training.fit import build_trainer
from stagetransfer.training.machine import quiet_lightning
from stagetransfer.training.module import ClassifierModule, FeatureBatch

log = logging.getLogger(__name__)


# Settings of the trainer that decide the last bits of a network's output.
ROUNDING = ("precision", "channels_last", "winograd", "deterministic", "benchmark")


class Store(Protocol):
    """A store of folders by key; see `stagetransfer.pipeline.stage_store.StageStore`."""

    def path(self, key: str) -> Path: ...
    def make(self, key: str) -> AbstractContextManager[Path | None]: ...


class FeatureSet(Dataset[FeatureBatch]):
    """Features of N images, in memory if they fit the limit in bytes, else read for each batch.

    Args:
        features: (M, F), a memory map.
        places: (N,) the rows of `features` to use.
        labels, rows: (N,) labels, and the images' row numbers in the domain's samples.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        places: NDArray[np.int64],
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        memory_limit: float,
    ) -> None:
        self.features = features
        self.places = places
        self.labels = torch.from_numpy(labels)
        self.rows = torch.from_numpy(rows)
        size = len(places) * features[:1].nbytes
        self.held = torch.from_numpy(features[places]) if size <= memory_limit else None

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, indices: Sequence[int]) -> FeatureBatch:
        """Return one batch; DataLoader calls this instead of `__getitem__`."""
        index = torch.as_tensor(indices)
        if self.held is not None:
            found = self.held[index]
        else:
            found = torch.from_numpy(self.features[self.places[index.numpy()]])
        return FeatureBatch(found, self.labels[index], self.rows[index])


class FeatureDataModule(pl.LightningDataModule):
    """A domain whose images are replaced by their features.

    `features` has for each split an array with one row per image of `images.all_rows`; `tested` is
    the split that `test_dataloader` returns.
    """

    def __init__(
        self,
        images: DomainDataModule,
        features: Mapping[str, NDArray[np.float32]],
        tested: str = "test",
    ) -> None:
        super().__init__()
        self.images = images
        self.features = features
        self.tested = tested
        self._sets: dict[str, FeatureSet] = {}

    def evaluations(self, split: str, passes: int) -> Iterator[pl.LightningDataModule]:
        """Yield one data module for each pass of a test; random variants need the images."""
        if passes == 1:
            yield FeatureDataModule(self.images, self.features, split)
        else:
            yield from self.images.evaluations(split, passes)

    def train_dataloader(self) -> DataLoader[FeatureBatch]:
        return self._loader("train", self.images.epoch_sampler())

    def val_dataloader(self) -> DataLoader[FeatureBatch]:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[FeatureBatch]:
        return self._loader(self.tested)

    def _loader(self, split: str, sampler: EpochSampler | None = None) -> DataLoader[FeatureBatch]:
        images = self.images
        if split not in self._sets:
            rows, limit = images.rows[split], images.settings.memory_limit_gib * 2**30
            places = np.searchsorted(images.all_rows[split], rows)
            labels = images.samples.labels[rows]
            self._sets[split] = FeatureSet(self.features[split], places, labels, rows, limit)
        return build_loader(
            self._sets[split], batch_size=images.stage.batch_size, workers=images.settings.workers,
            trainer=self.trainer, sampler=sampler,
        )  # fmt: skip


StageData = DomainDataModule | FeatureDataModule


def images_of(data: StageData) -> DomainDataModule:
    """Return the domain's images, whether or not the stage is trained on their features."""
    return data.images if isinstance(data, FeatureDataModule) else data


def with_cached_features(
    module: ClassifierModule,
    data: DomainDataModule,
    weights: Mapping[str, Any],
    settings: Trainer,
    store: Store,
) -> StageData:
    """Return the data with features in place of images, or `data` itself if that is not possible.

    If it is not possible, one line in the log says why. The store keeps the features of all
    images, not only of the share that the training-data ratio selects. `module` already has the
    weights of its frozen blocks; `weights` identifies them in the key of the features.
    """
    if not settings.frozen_features_gib:
        return data
    count = sum(map(len, data.all_rows.values()))
    reason, size = "", 0.0
    try:
        size = 4 * feature_length(module) * count / 2**30
    except NoSplit as error:
        reason = str(error)
    if reason := reason or _obstacle(data, settings, size):
        log.info("  frozen blocks are computed in each epoch: %s", reason)
        return data
    identity = {"features": dict(weights), "data": data.input_identity()}
    key = key_of({**identity, "trainer": {name: getattr(settings, name) for name in ROUNDING}})
    with store.make(key) as folder:
        if folder is not None:
            log.info("  frozen blocks: computed once for %d images (%.2g GiB)", count, size)
            write_features(module, data, settings, folder)
        else:
            log.info("  frozen blocks: outputs reused from %s", store.path(key))
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in store.path(key).glob("*.npy")}
    return FeatureDataModule(data, arrays)


def _obstacle(data: DomainDataModule, settings: Trainer, size: float) -> str:
    """Return why features cannot replace images; "" if they can. `size` is in GiB."""
    if data.settings.augment and data.settings.random_variants:
        names = ", ".join(data.settings.random_variants)
        return f"{data.stage.key} draws random variants ({names}). Set augment=false to draw none."
    if settings.devices > 1:
        return f"trainer.devices={settings.devices}"
    if size > (limit := settings.frozen_features_gib):
        return f"their outputs would take {size:.1f} GiB, trainer.frozen_features_gib={limit:g}"
    return ""


def feature_length(module: ClassifierModule) -> int:
    """Return the number of features of one image; `NoSplit` if the network has no fixed part."""
    return module.prefix.features(module.blank_images(1)).shape[1]


def write_features(
    module: ClassifierModule, data: DomainDataModule, settings: Trainer, folder: Path
) -> None:
    """Write <split>.npy, float32, with one row per image of `data.all_rows`.

    The network runs batch by batch, as in a test. Each result is written at once, so that memory
    holds one batch. A split without images has no file. No memory map is written: on a full disk,
    it would end the process with SIGBUS.
    """
    length = feature_length(module)
    with ExitStack() as stack:
        files = []
        for split, rows in data.all_rows.items():
            if len(rows):
                files.append(stack.enter_context((folder / f"{split}.npy").open("wb")))
                head = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), length)}
                np.lib.format.write_array_header_1_0(files[-1], head)
        writer = LambdaCallback(on_predict_batch_end=partial(_append, files))
        trainer = build_trainer(replace(settings, devices=1), logger=False, callbacks=[writer])
        with quiet_lightning():
            trainer.predict(module, datamodule=data, return_predictions=False)


def _append(
    files: Sequence[IO[bytes]], trainer: Any, module: Any, features: Any, batch: Any, *number: int
) -> None:
    """Append a batch to the file of its split. Lightning gives the numbers of batch and loader."""
    _, split = (*number, 0)[:2]  # a single loader has no number
    files[split].write(features.cpu().numpy().astype("<f4").tobytes())
