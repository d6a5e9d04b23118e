"""The table that every domain is read into: images with label, group and official split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagetransfer.data.compact_strings import Files, taken

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Samples:
    """N labelled images of C classes, either on disk or in memory.

    Attributes:
        images: paths of N image files, or one uint8 array (N, H, W) grey or (N, H, W, 3) RGB.
        ids: N unique names; for files the path relative to the domain's root, with forward slashes.
        labels: (N,) int64 in [0, C).
        classes: the C class names, in the order of the labels.
        groups: N names of what must not be divided by a split (patients, physical samples,
            videos), or None where nothing of the kind is known.
        splits: N of "train", "validation" or "test" where the publisher fixed the split, else None.
    """

    images: Sequence[Path] | NDArray[np.uint8]
    ids: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        for name in ("images", "labels", "groups", "splits"):
            column: Sequence[object] | None = getattr(self, name)
            if column is not None and len(column) != n:
                raise ValueError(f"Samples.{name} has {len(column)} rows, ids has {n}")
        if n and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"labels must lie in [0, {len(self.classes)})")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> Samples:
        """The samples at these row numbers, in their order; the classes stay as they are."""
        if isinstance(self.images, np.ndarray):
            images: Sequence[Path] | NDArray[np.uint8] = self.images[rows]
        elif isinstance(self.images, Files):
            images = self.images.take(rows)
        else:
            images = tuple(self.images[i] for i in rows)
        return replace(
            self,
            images=images,
            ids=taken(self.ids, rows),
            labels=self.labels[rows],
            groups=None if self.groups is None else tuple(self.groups[i] for i in rows),
            splits=None if self.splits is None else tuple(self.splits[i] for i in rows),
        )

    def counts(self) -> NDArray[np.int64]:
        """(C,) number of images a class."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def fingerprint(self) -> str:
        """A hash of what the set holds: ids, labels, classes, groups, splits, and the images.

        Images in memory enter with every pixel, files with their size in bytes: reading a million
        files to name a stage would cost more than training some stages.
        """
        digest = hashlib.sha256(repr(self.classes).encode())
        sizes = (
            [""] * len(self)
            if isinstance(self.images, np.ndarray)
            else [str(os.stat(path).st_size) for path in self.images]
        )
        none = ("",) * len(self)
        for row in zip(
            self.ids, self.labels, self.groups or none, self.splits or none, sizes, strict=True
        ):
            digest.update(repr(tuple(map(str, row))).encode())
        if isinstance(self.images, np.ndarray):
            digest.update(repr(self.images.shape).encode())
            digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()[:16]
