"""Features of frozen layers: computed once for every image, kept on disk, and trained on.

The frozen part of a network is a fixed function of the image. Its output is therefore computed
once and read in place of the image in every epoch, in runs of any seed, rate and ratio.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stagetransfer.config.identity import key_of
from stagetransfer.config.schema import Trainer
from stagetransfer.data import DomainDataModule
from stagetransfer.data.loader import EpochSampler, build_loader
from stagetransfer.training.fit import build_trainer
from stagetransfer.training.machine import quiet_lightning
from stagetransfer.training.module import ClassifierModule, FeatureBatch

log = logging.getLogger(__name__)


class Store(Protocol):
    """A store of folders by key; see `stagetransfer.pipeline.stage_store.StageStore`."""

    def path(self, key: str) -> Path: ...
    def make(self, key: str) -> AbstractContextManager[Path | None]: ...


class FeatureSet(Dataset[FeatureBatch]):
    """Features of N images, in memory if they fit the limit, else read from the file for a batch.

    Args:
        features: (M, F) or (M, H, W, C), a memory map; channels last, as convolutions read them.
        places: (N,) rows of `features`.
        labels: (N,).
        rows: (N,) the images' numbers in the domain's samples.
        memory_limit: bytes.
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
            found = torch.from_numpy(self.features[self.places[np.asarray(indices)]])
        if found.ndim == 4:
            found = found.permute(0, 3, 1, 2)
        return FeatureBatch(found, self.labels[index], self.rows[index])


class FeatureDataModule(pl.LightningDataModule):
    """A domain whose images are replaced by their features; what `fit` and `evaluate` get.

    Args:
        images: the domain.
        features: for each split an array with one row per image of `images.all_rows`.
        tested: the split that `test_dataloader` returns.
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
        """Return batches of the training images' features, in a new order in each epoch."""
        stage = self.images.stage
        labels = self.images.labels("train")
        return self._loader("train", EpochSampler(labels, stage.seed, balanced=stage.balanced))

    def val_dataloader(self) -> DataLoader[FeatureBatch]:
        """Return the validation images' features, in order."""
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[FeatureBatch]:
        """Return the features of the images of the split `tested`, in order."""
        return self._loader(self.tested)

    def _loader(self, split: str, sampler: EpochSampler | None = None) -> DataLoader[FeatureBatch]:
        if split not in self._sets:
            images = self.images
            rows = images.rows[split]
            self._sets[split] = FeatureSet(
                self.features[split],
                np.searchsorted(images.all_rows[split], rows),
                images.samples.labels[rows],
                rows,
                images.settings.memory_limit_gib * 2**30,
            )
        return build_loader(
            self._sets[split],
            batch_size=self.images.stage.batch_size,
            workers=self.images.settings.workers,
            trainer=self.trainer,
            sampler=sampler,
        )


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

    The store keeps the features of all images before the ratio. If they cannot replace the images,
    one line in the log says why.

    Args:
        module: its frozen layers have their weights.
        weights: identifies the weights of the frozen layers.
        store: keeps features by key.
    """
    if not settings.frozen_features_gib:
        return data
    count = sum(map(len, data.all_rows.values()))
    size = 4 * math.prod(feature_shape(module)) * count / 2**30
    if reason := _obstacle(data, settings, size):
        log.info("  frozen layers are computed in each epoch: %s", reason)
        return data
    key = key_of(
        {"features": dict(weights), "data": data.input_identity(), "precision": settings.precision}
    )
    with store.make(key) as folder:
        if folder is not None:
            log.info("  frozen layers: computed once for %d images (%.2g GiB)", count, size)
            write_features(module, data, settings, folder)
        else:
            log.info("  frozen layers: outputs reused from %s", store.path(key))
    return FeatureDataModule(data, read_features(store.path(key)))


def _obstacle(data: DomainDataModule, settings: Trainer, size: float) -> str | None:
    variants = data.settings.random_variants
    if data.settings.augment and variants:
        names = ", ".join(variants)
        return f"{data.stage.key} draws random variants ({names}). Set augment=false to draw none."
    if settings.devices > 1:
        return f"trainer.devices={settings.devices}"
    if size > settings.frozen_features_gib:
        limit = f"trainer.frozen_features_gib={settings.frozen_features_gib:g}"
        return f"their outputs would take {size:.1f} GiB, {limit}"
    return None


def feature_shape(module: ClassifierModule) -> tuple[int, ...]:
    """Return the shape of one image's features: (F,) or (H, W, C)."""
    size = module.network.input_size
    module.eval()
    shape = module.features(torch.zeros(1, 3, size, size)).shape[1:]
    module.train()
    return tuple(shape) if len(shape) == 1 else (shape[1], shape[2], shape[0])


def write_features(
    module: ClassifierModule, data: DomainDataModule, settings: Trainer, folder: Path
) -> None:
    """Write one file <split>.npy, float32, for each split that has images.

    A file has one row per image of `data.all_rows`. The images pass through the network batch by
    batch, as in a test, and each result is written at once: memory holds one batch.
    """
    shape = feature_shape(module)
    arrays = [
        np.lib.format.open_memmap(
            folder / f"{split}.npy", mode="w+", dtype=np.float32, shape=(len(rows), *shape)
        )
        for split, rows in data.all_rows.items()
        if len(rows)
    ]
    trainer = build_trainer(replace(settings, devices=1), logger=False, callbacks=[_Writer(arrays)])
    with quiet_lightning():
        trainer.predict(module, datamodule=data, return_predictions=False)
    for array in arrays:
        array.flush()


class _Writer(pl.Callback):
    """Writes each batch of features to its rows of the array."""

    def __init__(self, arrays: list[np.memmap[Any, np.dtype[np.float32]]]) -> None:
        self.arrays = arrays
        self.written = [0] * len(arrays)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Called by Lightning."""
        features: Tensor = outputs
        start = self.written[dataloader_idx]
        end = start + len(features)
        self.arrays[dataloader_idx][start:end] = features.cpu().numpy()
        self.written[dataloader_idx] = end


def read_features(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return the arrays that `write_features` wrote, as memory maps by split."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
