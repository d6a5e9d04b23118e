"""The table of a domain's images: file or pixels, label, group and official split of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagetransfer.files import ImageSource
from stagetransfer.layouts.compact_strings import FilePaths, take_strings

UNKNOWN_GROUPS = (
    "the patients are unknown. Images of one patient may be in training and test, which makes the "
    "test easier and the intervals too narrow. Name them: column patient (csv), options.groups "
    "(folder), or column group of a split file"
)


@dataclass(frozen=True)
class Samples:
    """N labelled images of C classes, either on disk or in memory.

    A group is a patient, a physical sample or a video, which no split may divide. `groups` and
    `splits` are None if no groups are known or the publisher fixed no split.
    """

    images: Sequence[ImageSource] | NDArray[np.uint8]  # files, or (N, H, W[, 3]) pixels
    ids: Sequence[str]  # unique; for files the path below the domain's root, with "/"
    labels: NDArray[np.int64]  # (N,) in [0, C)
    classes: tuple[str, ...]  # C names, in the order of the labels
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None  # "train", "validation" or "test"

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
        """Return the samples at these rows, in this order; all classes are kept."""
        images: Sequence[ImageSource] | NDArray[np.uint8]
        if isinstance(self.images, np.ndarray):
            images = self.images[rows]
        elif isinstance(self.images, FilePaths):
            images = self.images.take(rows)
        else:
            images = tuple(self.images[i] for i in rows)
        columns = (self.groups, self.splits)
        groups, splits = (of and tuple(of[i] for i in rows) for of in columns)
        ids = take_strings(self.ids, rows)
        return Samples(images, ids, self.labels[rows], self.classes, groups, splits)

    def fingerprint(self, digests: NDArray[np.uint64] | None = None) -> str:
        """Return a hash of ids, labels, classes, groups, splits and images.

        Images in memory are hashed by their pixels, and files by the (N,) `digests` of theirs.
        Without digests, a file counts by its size in bytes and its time of modification: reading a
        million files takes longer than training some stages.
        """
        digest = hashlib.sha256(repr(self.classes).encode())
        pixels = self.images if isinstance(self.images, np.ndarray) else None
        none = ("",) * len(self)
        contents: Sequence[object] = none
        if pixels is None and digests is not None:
            contents = digests.tolist()
        elif pixels is None:
            states = [os.stat(path) for path in self.images if isinstance(path, Path)]
            contents = [(one.st_size, one.st_mtime_ns) for one in states]
        columns = (self.ids, self.labels, self.groups or none, self.splits or none, contents)
        for row in zip(*columns, strict=True):
            digest.update(repr(tuple(map(str, row))).encode())
        if pixels is not None:
            digest.update(repr(pixels.shape).encode())
            digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()[:16]
