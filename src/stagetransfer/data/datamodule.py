"""A LightningDataModule for each domain: natural, texture, target, or a user's own."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from stagetransfer.data import images
from stagetransfer.data.feature_set import AnyBatch, FeatureBatch, FeatureSet
from stagetransfer.data.holdout import cut
from stagetransfer.data.images import ImageSet
from stagetransfer.data.index import read_indexed
from stagetransfer.data.layouts import LAYOUTS, TREES, check_images
from stagetransfer.data.sampler import EpochSampler, ShareSampler
from stagetransfer.data.samples import Samples
from stagetransfer.data.split_files import read_split_file
from stagetransfer.data.subset import thin
from stagetransfer.errors import UserError
from stagetransfer.synthetic import GENERATORS

Rows = NDArray[np.int64]


class DomainDataModule(pl.LightningDataModule):
    """One domain's images, cut into training, validation and (as the target) test.

    Splits: those of a split file, or else the publisher's where there are some. What they lack,
    the test set (target only) and then the validation set, is cut from the training images,
    stratified by class and never through a group. The ratio then thins training *and* validation
    images, class by class: a study with a fifth of the labels has a fifth of them for choosing
    its checkpoint too. The test set is never thinned.
    A source stage leaves an official test split untouched.

    Args:
        name: the domain's key in the config, for messages.
        layout: "embedded", or one of `stagetransfer.data.layouts.LAYOUTS`.
        root: folder of the images; None for "embedded".
        options: passed to the layout's reader, or to the generator.
        validation_share, test_share: shares in (0, 1) of the images that are cut from.
        split_by: "group" or "image".
        split_seed: draws these cuts; the same for all seeds of a sweep, so that all runs share
            one test set.
        split_file, fold: see `stagetransfer.data.split_files`; fold is the test set's number.
        mirror, turn, crop, fit: see `stagetransfer.data.images`.
        augment: whether training draws random variants; without, they are drawn only by `vary`.
        workers, memory_limit_gib, device_memory_limit_gib, check_images, index: see
            conf/domain/common.yaml.
        is_target: whether this is the last stage of its chain.
        ratio: share r of the training images, in (0, 1].
        ratio_by: "image", or "group" to take whole groups.
        seed: draws the subset and the order of the images.
        batch_size: images a training step.
        balanced: draw the classes equally often.
        downsampled: take as many training images of each class as the rarest has.
        input_size, mean, std: the network's input; see `stagetransfer.data.images.to_input`.

    Raises:
        UserError: the data can't be read or cut as asked.
    """

    generator: ClassVar[Callable[..., Samples] | None] = None

    def __init__(
        self,
        *,
        name: str,
        layout: str,
        root: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        validation_share: float = 0.15,
        test_share: float = 0.25,
        split_by: str = "group",
        split_seed: int = 0,
        split_file: str | Path | None = None,
        fold: int | None = None,
        mirror: bool = True,
        turn: bool = False,
        crop: float = 0.0,
        augment: bool = True,
        fit: str = "crop",
        workers: int = 0,
        memory_limit_gib: float = 4.0,
        device_memory_limit_gib: float = 4.0,
        check_images: bool = True,
        index: bool = True,
        is_target: bool = True,
        ratio: float = 1.0,
        ratio_by: str = "image",
        seed: int = 0,
        batch_size: int = 64,
        balanced: bool = False,
        downsampled: bool = False,
        input_size: int = 227,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.name = name
        self.layout = layout
        self.root = root
        self.options = dict(options or {})
        self.validation_share = validation_share
        self.test_share = test_share
        self.split_by = split_by
        self.split_seed = split_seed
        self.split_file = split_file
        self.fold = fold
        self.mirror = mirror
        self.turn = turn
        self.crop = crop
        self.augment = augment
        self.fit = fit
        self.workers = workers
        self.memory_limit = memory_limit_gib * 2**30
        self.device_memory_limit = device_memory_limit_gib * 2**30
        self.check_images = check_images
        self.index = index
        self.is_target = is_target
        self.ratio = ratio
        self.ratio_by = ratio_by
        self.seed = seed
        self.batch_size = batch_size
        self.balanced = balanced
        self.input_size = input_size
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)
        self._check()
        self.samples, self.fingerprint = self._read()
        self.splits = self._apply_split_file()
        self.whole = cut(
            self.samples,
            test_share=test_share if is_target else None,
            validation_share=validation_share,
            by=split_by,
            seed=split_seed,
            name=name,
        )
        self.rows = thin(
            self.samples,
            self.whole,
            ratio=ratio,
            by=ratio_by,
            seed=seed,
            downsampled=downsampled,
            name=name,
        )
        self.vary = False  # random variants of the test images too
        self.tested = "test"  # the split that a test goes through
        self._sets: dict[str, ImageSet] = {}
        self._features: dict[str, FeatureSet] = {}
        self._scales: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.samples.classes

    def count(self, split: str) -> int:
        """Images in "train", "validation" or "test"."""
        return len(self.rows[split])

    def count_by_class(self, split: str) -> dict[str, int]:
        """Images of each class in "train", "validation" or "test"."""
        counts = torch.bincount(self._labels(split), minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def identity(self) -> dict[str, Any]:
        """All of this data module that decides a result; paths and workers do not."""
        return {
            "fingerprint": self.fingerprint,
            "validation_share": self.validation_share,
            "test_share": self.test_share if self.is_target else None,
            "split_by": self.split_by,
            "split_seed": self.split_seed,
            "mirror": self.mirror and self.augment,
            "turn": self.turn and self.augment,
            "crop": self.crop,
            "fit": self.fit,
            "ratio": self.ratio,
            **({"splits": self.splits} if self.splits else {}),
            **({"ratio_by": "group"} if self.ratio_by == "group" and self.ratio < 1 else {}),
            **({"augment": False} if self.crop and not self.augment else {}),
        }

    @property
    def variants(self) -> dict[str, Any]:
        """What the random variants of an image are; empty where there are none."""
        chosen = {"mirror": self.mirror, "turn": self.turn, "crop": self.crop}
        return {name: value for name, value in chosen.items() if value}

    def class_weights(self) -> Tensor:
        """(C,) loss weights N / (C n_c) of the training images: each class counts the same."""
        counts = torch.bincount(self._labels("train"), minlength=len(self.classes))
        return counts.sum() / (len(self.classes) * counts.float())

    def setup(self, stage: str) -> None:
        """Decodes what the stage ("fit" or "test") needs; called by Lightning."""
        wanted = {
            "fit": ("train", "validation"),
            "validate": ("validation",),
            "test": (self.tested,),
        }.get(stage, (stage,))
        for split in wanted:
            if split not in self._sets and split not in self._features and split in self.rows:
                self._sets[split] = self._images(self.rows[split])
                if self.trainer is not None:
                    device = self.trainer.strategy.root_device
                    self._sets[split].move(device, self.device_memory_limit)

    def whole_identity(self) -> dict[str, Any]:
        """All that decides which images a stage begins with, and how a test shows them."""
        rows = {split: rows.tolist() for split, rows in self.whole.items()}
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
        return {
            "fingerprint": self.fingerprint,
            "rows": digest,
            "fit": self.fit,
            "crop": self.crop,
        }

    def use_images(self, split: str) -> None:
        """Lets the batches of a split hold images again."""
        self._features.pop(split, None)

    def use_features(self, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Lets the batches of these splits, and of no others, hold features in place of images.

        Args:
            features: for a split an array with a row for each of its rows in `whole`; see
                `FeatureSet`.
        """
        self._features = {}
        for split, array in features.items():
            places = np.searchsorted(self.whole[split], self.rows[split])
            rows = self.rows[split]
            labels = self.samples.labels[rows]
            self._features[split] = FeatureSet(array, places, labels, rows, self.memory_limit)

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """For each split that has any: all its images before thinning, in order."""
        return [self._loader(self._images(rows)) for rows in self.whole.values() if len(rows)]

    def train_dataloader(self) -> DataLoader[AnyBatch]:
        """Batches of the training images, in a new order each epoch."""
        sampler = EpochSampler(self._labels("train"), self.seed, balanced=self.balanced)
        return self._loader(self._set("train"), sampler)

    def val_dataloader(self) -> DataLoader[AnyBatch]:
        """The validation images, in order."""
        return self._loader(self._set("validation"))

    def test_dataloader(self) -> DataLoader[AnyBatch]:
        """The images of the split `tested`, in order."""
        return self._loader(self._set(self.tested))

    def on_after_batch_transfer(self, batch: AnyBatch, dataloader_idx: int) -> AnyBatch:
        """Augments (training only), enlarges and normalises on the device; called by Lightning."""
        assert self.trainer is not None
        if isinstance(batch, FeatureBatch):
            return batch
        x = batch.images
        if (self.trainer.training and self.augment) or (self.trainer.testing and self.vary):
            x = images.augment(x, mirror=self.mirror, turn=self.turn, crop=self.crop)
        else:
            x = images.centre_crop(x, self.crop)
        return batch._replace(images=self._to_input(x))

    def inputs(self, split: str, positions: Sequence[int]) -> Tensor:
        """Network input (B, 3, S, S) of B images of "train", "validation" or "test", as the
        network sees them in a test; positions count within the split."""
        if split not in self._sets:
            self._sets[split] = self._images(self.rows[split])
        stored = self._sets[split].__getitems__(positions).images
        return self._to_input(images.centre_crop(stored, self.crop))

    def _to_input(self, stored: Tensor) -> Tensor:
        if stored.device not in self._scales:
            self._scales[stored.device] = (self.mean.to(stored.device), self.std.to(stored.device))
        return images.to_input(stored, self.input_size, *self._scales[stored.device])

    def _images(self, rows: Rows) -> ImageSet:
        # Stored with the margin that a random crop cuts away.
        side = round(self.input_size / (1 - self.crop))
        return ImageSet(self.samples, rows, side, self.fit, self.memory_limit)

    def _set(self, split: str) -> ImageSet | FeatureSet:
        return self._features[split] if split in self._features else self._sets[split]

    def _loader(
        self, data: ImageSet | FeatureSet, sampler: EpochSampler | None = None
    ) -> DataLoader[Any]:
        workers = 0 if data.held is not None else self.workers
        chosen: Sampler[int] = sampler or SequentialSampler(data)
        if self.trainer is not None and self.trainer.world_size > 1:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            chosen = ShareSampler(chosen, rank, world, even=sampler is not None)
        return DataLoader(
            data,
            batch_size=self.batch_size,
            sampler=chosen,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available()
            and not (data.held is not None and data.held.is_cuda),
            collate_fn=_as_it_is,
        )

    def _labels(self, split: str) -> Tensor:
        return torch.from_numpy(self.samples.labels[self.rows[split]])

    def _check(self) -> None:
        key = f"domain.{self.name}"
        for knob, legal in (
            ("layout", ("embedded", *LAYOUTS)),
            ("split_by", ("group", "image")),
            ("fit", ("crop", "stretch")),
            ("ratio_by", ("image", "group")),
        ):
            if getattr(self, knob) not in legal:
                raise UserError(f"{key}.{knob}={getattr(self, knob)}: none of {', '.join(legal)}")
        for knob in ("validation_share", "test_share"):
            if not 0 < getattr(self, knob) < 1:
                raise UserError(f"{key}.{knob}={getattr(self, knob)}: must lie between 0 and 1")
        if not 0 <= self.crop < 1:
            raise UserError(f"{key}.crop={self.crop}: must be 0 or more and below 1")
        if self.layout != "embedded" and self.root is None:
            raise UserError(f"{key}.root is required: give it as {key}.root=/path/to/images")

    def _read(self) -> tuple[Samples, str]:
        if self.layout == "embedded":
            generator = type(self).generator
            if generator is None:
                raise UserError(f"domain.{self.name}.layout=embedded: only the built-in domains")
            reader: Callable[..., Samples] = generator
        else:
            reader = functools.partial(LAYOUTS[self.layout], Path(str(self.root)))
        try:
            inspect.signature(reader).bind(**self.options)
        except TypeError as error:
            known = ", ".join(list(inspect.signature(reader).parameters))
            raise UserError(f"domain.{self.name}.options: {error}; there are {known}") from error
        if self.index and self.layout in TREES:
            return read_indexed(
                LAYOUTS[self.layout],
                self.layout,
                Path(str(self.root)),
                self.options,
                check=self.check_images,
            )
        samples = reader(**self.options)
        if self.check_images and self.layout != "embedded":
            check_images(samples)
        return samples, samples.fingerprint()

    def _apply_split_file(self) -> dict[str, Any] | None:
        """Puts a split file's splits in place of the data's; what names them, None without."""
        key = f"domain.{self.name}"
        if self.split_file is None:
            if self.fold is not None:
                raise UserError(f"{key}.fold={self.fold}: of which file? give {key}.split_file")
            return None
        file = read_split_file(Path(self.split_file))
        file.check_fold(self.fold, f"{key}.fold")
        self.samples = file.apply(self.samples, self.fold)
        return file.record(self.fold)


def _as_it_is(batch: Any) -> Any:
    """`ImageSet` hands over whole batches: nothing is left to collate."""
    return batch


def _generated(name: str) -> Callable[..., Samples]:
    """The generator of a synthetic domain, with its own signature."""
    generate = GENERATORS[name]

    @functools.wraps(generate)
    def samples(**options: Any) -> Samples:
        return Samples(*generate(**options))

    return samples


class NaturalDataModule(DomainDataModule):
    """Natural images: ImageNet's layout, any class-per-folder tree, or generated scenes."""

    generator = staticmethod(_generated("natural"))


class TextureDataModule(DomainDataModule):
    """Textures: CUReT, DTD, KTH-TIPS, any class-per-folder tree, or generated textures."""

    generator = staticmethod(_generated("texture"))


class TargetDataModule(DomainDataModule):
    """Lung patches: the DLD layout, a CSV, class-per-folder, or the generated phantom."""

    generator = staticmethod(_generated("target"))
