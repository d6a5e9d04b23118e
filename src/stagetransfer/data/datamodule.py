"""A LightningDataModule for each domain: natural, texture, target, or a user's own."""

import functools
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from stagetransfer.config.domain_settings import DomainSettings, StageSettings
from stagetransfer.data import images
from stagetransfer.data.confounder import draw_confounder
from stagetransfer.data.copies import Copies
from stagetransfer.data.holdout import Rows, split_samples
from stagetransfer.data.images import Batch, ImageSet
from stagetransfer.data.label_noise import with_wrong_labels
from stagetransfer.data.loader import EpochSampler, build_loader
from stagetransfer.data.split_files import read_split_file
from stagetransfer.data.subset import subset_of_splits
from stagetransfer.errors import UserError
from stagetransfer.layouts import LAYOUTS, TREES, check_images, check_options
from stagetransfer.layouts.folder_index import read_indexed
from stagetransfer.layouts.samples import UNKNOWN_GROUPS, Samples
from stagetransfer.layouts.shards import PackedImages
from stagetransfer.synthetic import GENERATORS

# Batch size of `predict_dataloader`. The last bits of a network's output depend on it, and runs of
# any batch size share the features that are computed from these batches.
PREDICTED = 64

log = logging.getLogger(__name__)


class DomainDataModule(pl.LightningDataModule):
    """One domain's images, split into training, validation and (for the target) test images.

    The constructor only checks the settings; `read` reads the domain. The splits are those of a
    split file, or else the publisher's. Where they have no test set (target only) or no validation
    set, one is held out of the training images, stratified by class and without dividing a group.
    The ratio then selects a subset of the training *and* validation images (`subset_of_splits`).
    A source stage never uses an official test split. `settings` are the keys of the domain's
    config; see `DomainSettings`.
    """

    generator: ClassVar[Callable[..., Samples] | None] = None

    samples: Samples  # all images of the domain
    fingerprint: str  # the hash of their content
    split_file_record: dict[str, Any] | None  # the content of the split file and the fold
    copies: Copies  # images with the same pixels
    all_rows: dict[str, Rows]  # of "train", "validation" and "test", before the ratio
    rows: dict[str, Rows]  # those in use

    def __init__(self, stage: StageSettings, **settings: Any) -> None:
        super().__init__()
        self.stage = stage
        read = DomainSettings.from_config(settings, stage.key)
        options = check_options(self._reader(read), read.options, f"{stage.key}.options")
        self.settings = replace(read, options=options)
        for name in [*read.planted, *read.worsened] if not stage.is_target else ():
            raise UserError(f"{stage.key}.{name}: only the target may have one. Leave it out.")
        self.mean = torch.tensor(stage.mean).view(3, 1, 1)
        self.std = torch.tensor(stage.std).view(3, 1, 1)
        self._scales: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.cached_images: Path | None = None  # see `training.image_cache`
        self._image_sets: dict[str, ImageSet] = {}

    def read(self) -> Self:
        """Read labels, splits and subset; pixels are decoded once if images are checked."""
        stage, settings, self.read_at = self.stage, self.settings, time.time()
        self.samples, self.fingerprint, digests = self._read_samples()
        self.split_file_record = self._apply_split_file()
        self.all_rows = split_samples(
            self.samples,
            test_share=settings.test_share if stage.is_target else None,
            validation_share=settings.validation_share,
            by=settings.split_by,
            seed=settings.split_seed,
            hint=f"{stage.key}.split_by=image",
        )
        self._confounder = draw_confounder(self.samples, self.all_rows["test"], settings, stage.key)
        self.copies = Copies.among(self.samples, self.all_rows, digests)
        self.rows = subset_of_splits(self.samples, self.all_rows, stage, settings.long_tail)
        self._right = self.samples.labels
        if settings.label_noise is not None:
            train, rate = self.all_rows["train"], settings.label_noise
            self.samples = with_wrong_labels(self.samples, train, rate, stage.seed)
        return self

    def log_doubts(self) -> None:
        """Log what makes figures doubtful: copies in other splits, unknown patients, no check."""
        lines = list(self.copies.lines)
        if wrong := self.wrong_labels:
            lines += [f"{wrong} of {self.count('train')} training labels are wrong (label_noise)"]
        if self.settings.long_tail is not None:
            counts = ", ".join(f"{n} {name}" for name, n in self.count_by_class("train").items())
            lines += [f"training images after long_tail: {counts}"]
        if not self.copies.compared:
            text = "images are not decoded beforehand: damaged ones and copies are not looked for, "
            text += "and whether a file has changed is told from its size and time"
            log.info("%s: %s", self.stage.key, text)
        if self.stage.is_target and self.samples.groups is None and self.settings.root:
            lines += [UNKNOWN_GROUPS]
        for line in lines:
            log.warning("%s: %s", self.stage.key, line)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.samples.classes

    def labels(self, split: str) -> Tensor:
        """Return the (N,) labels of "train", "validation" or "test"."""
        return torch.from_numpy(self.samples.labels[self.rows[split]])

    def count(self, split: str) -> int:
        """Return the number of images in a split."""
        return len(self.rows[split])

    def count_by_class(self, split: str) -> dict[str, int]:
        """Return the number of images of each class in a split."""
        return dict(zip(self.classes, self._class_counts(split).tolist(), strict=True))

    @property
    def wrong_labels(self) -> int:
        """The number of training images in use whose label `label_noise` has changed."""
        train = self.rows["train"]
        return int((self.samples.labels[train] != self._right[train]).sum())

    def class_weights(self) -> Tensor:
        """Return (C,) loss weights N / (C n_c), which give each class the same total weight."""
        counts = self._class_counts("train")
        return counts.sum() / (len(self.classes) * counts.float())

    def _class_counts(self, split: str) -> Tensor:
        return torch.bincount(self.labels(split), minlength=len(self.classes))

    def identity(self) -> dict[str, Any]:
        """Return everything about the data that decides a result, for the hash of a stage."""
        deciding = self.settings.deciding(is_target=self.stage.is_target)
        # The fingerprint covers all that these two decide. Only a user's own generator might select
        # other files by its options whose names and sizes are the same.
        if deciding["layout"] != "embedded" or isinstance(self.samples.images, np.ndarray):
            del deciding["layout"], deciding["options"]
        known = {"fingerprint": self.fingerprint, "splits": self.split_file_record}
        if (shards := self._mixed_shards) is not None:
            known["order"] = hashlib.sha256(shards.tobytes()).hexdigest()[:16]
        return {**known, **deciding, **self.stage.deciding()}

    def input_identity(self) -> dict[str, Any]:
        """Return what decides the images of all splits before the ratio, as a test shows them."""
        rows = {split: rows.tolist() for split, rows in self.all_rows.items()}
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
        shown = {"fit": self.settings.fit, "crop": self.settings.crop, **self.settings.planted}
        return {"fingerprint": self.fingerprint, "rows": digest, **shown}

    def image_set(self, split: str, trainer: pl.Trainer | None = None) -> ImageSet:
        """Return a split's images, decoded once, and on the trainer's device if they fit there."""
        if split not in self._image_sets:
            self._image_sets[split] = self._decode(self.rows[split])
            if trainer is not None:
                limit = self.settings.device_memory_limit_gib * 2**30
                self._image_sets[split].move(trainer.strategy.root_device, limit)
        return self._image_sets[split]

    def inputs(self, split: str, positions: Sequence[int]) -> Tensor:
        """Return test input (B, 3, S, S) of the images at these B positions in the split."""
        return self.to_input(self.image_set(split).__getitems__(positions).images)

    def some_inputs(self, split: str, count: int, seed: int) -> Tensor:
        """Return test input (B, 3, S, S) of up to `count` random images of a split, on the CPU."""
        rows = self.rows[split]
        chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
        return self.to_input(self.stored(split, np.sort(chosen)))

    def stored(self, split: str, positions: Sequence[int] | Rows) -> Tensor:
        """Return stored images (B, C, H, W) uint8 of a split; no others are decoded, or kept."""
        decoded = self._decode(self.rows[split][np.asarray(positions)])
        return decoded.__getitems__(range(len(decoded))).images

    def to_input(self, stored: Tensor, *, random_variants: bool = False) -> Tensor:
        """Return network input (B, 3, S, S) from stored images (B, C, H, W) on their device."""
        settings, device = self.settings, stored.device
        if random_variants:
            stored = images.augment(
                stored, mirror=settings.mirror, turn=settings.turn, crop=settings.crop
            )
        else:
            stored = images.centre_crop(stored, settings.crop)
        if device not in self._scales:
            self._scales[device] = (self.mean.to(device), self.std.to(device))
        return images.to_input(stored, self.stage.input_size, *self._scales[device])

    def evaluations(self, split: str, passes: int) -> Iterator[pl.LightningDataModule]:
        """Yield one data module per pass of a test; all but the first show random variants."""
        return (_Evaluation(self, split, random_variants=number > 0) for number in range(passes))

    def setup(self, stage: str) -> None:
        """Decode what the stage ("fit", "validate" or "test") needs; called by Lightning."""
        splits = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
        for split in splits.get(stage, ()):
            self.image_set(split, self.trainer)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the training images, in a new order in each epoch."""
        return self._loader(self.image_set("train"), self.trainer, self.epoch_sampler())

    def epoch_sampler(self) -> EpochSampler:
        """Return what orders the training images of each epoch."""
        stage, mixed = self.stage, self._mixed_shards
        shards = None if mixed is None else torch.from_numpy(mixed[self.rows["train"]])
        return EpochSampler(
            self.labels("train"), stage.seed, balanced=stage.balanced, shards=shards
        )

    @property
    def _mixed_shards(self) -> NDArray[np.int64] | None:
        images = self.samples.images
        return images.mixed if isinstance(images, PackedImages) else None

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.image_set("validation"), self.trainer)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.image_set("test"), self.trainer)

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Return all images before the ratio, in order: one loader for each split that has any."""
        parts = [self._decode(rows) for rows in self.all_rows.values() if len(rows)]
        return [self._loader(part, self.trainer, batch_size=PREDICTED) for part in parts]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn stored images into network input on the device; called by Lightning."""
        assert self.trainer is not None
        augmented = self.trainer.training and self.settings.augment
        return batch._replace(images=self.to_input(batch.images, random_variants=augmented))

    def _decode(self, rows: Rows) -> ImageSet:
        limit = self.settings.memory_limit_gib * 2**30
        return ImageSet(
            self.samples, rows, self.side, self.settings.fit, limit, self._confounder,
            self.cached_images,
        )  # fmt: skip

    @functools.cached_property
    def side(self) -> int:
        """Side at which the images are stored, with the margin that a random crop removes."""
        side = round(self.stage.input_size / (1 - self.settings.crop))
        return images.stored_side(self.samples.images, side)

    def _loader(
        self, data: ImageSet, trainer: pl.Trainer | None, sampler: EpochSampler | None = None,
        batch_size: int | None = None,
    ) -> DataLoader[Any]:  # fmt: skip
        # Copying decoded images between processes takes longer than reading them.
        workers = 0 if self.cached_images else self.settings.workers
        return build_loader(data, batch_size or self.stage.batch_size, workers, trainer, sampler)

    def _reader(self, settings: DomainSettings) -> Callable[..., Samples]:
        """Return the function that reads the layout, or draws the embedded domain."""
        key, layout, generator = self.stage.key, settings.layout, type(self).generator
        if layout in LAYOUTS:
            return functools.partial(LAYOUTS[layout], settings.root)
        if layout != "embedded":
            raise UserError(f"{key}.layout={layout}: none of embedded, {', '.join(LAYOUTS)}")
        if generator is None:
            raise UserError(f"{key}.layout=embedded: only the built-in domains have images")
        return generator

    def _read_samples(self) -> tuple[Samples, str, NDArray[np.uint64] | None]:
        """Return the samples, their fingerprint, and digests of their images if known."""
        settings, layout = self.settings, self.settings.layout
        if settings.index and layout in TREES:
            assert settings.root is not None
            return read_indexed(
                LAYOUTS[layout], layout, settings.root, settings.options, settings.check_images
            )
        samples = self._reader(settings)(**settings.options)
        checked = settings.check_images or layout == "litdata"  # `pack` has checked them
        digests = check_images(samples) if checked else None
        return samples, samples.fingerprint(digests), digests

    def _apply_split_file(self) -> dict[str, Any] | None:
        """Replace the splits of the samples by those of a split file, and return its record."""
        key, path, fold = self.stage.key, self.settings.split_file, self.settings.fold
        if path is None:
            if fold is not None:
                raise UserError(f"{key}.fold={fold}: no split file is given. Set {key}.split_file.")
            return None
        file = read_split_file(path)
        file.check_fold(fold, f"{key}.fold")
        self.samples = file.apply(self.samples, fold)
        return file.record(fold)


class _Evaluation(pl.LightningDataModule):
    """One split of a domain, in order, for `Trainer.test`."""

    def __init__(self, data: DomainDataModule, split: str, *, random_variants: bool) -> None:
        super().__init__()
        self.data, self.split, self.random_variants = data, split, random_variants

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.data._loader(self.data.image_set(self.split, self.trainer), self.trainer)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        x = self.data.to_input(batch.images, random_variants=self.random_variants)
        return batch._replace(images=x)


class NaturalDataModule(DomainDataModule):
    """Natural images: ImageNet's layout, one folder per class, or generated scenes."""

    generator = staticmethod(GENERATORS["natural"])


class TextureDataModule(DomainDataModule):
    """Textures: CUReT, DTD, KTH-TIPS, one folder per class, or generated textures."""

    generator = staticmethod(GENERATORS["texture"])


class TargetDataModule(DomainDataModule):
    """Lung patches: the DLD layout, a CSV, one folder per class, or the generated phantom."""

    generator = staticmethod(GENERATORS["target"])
