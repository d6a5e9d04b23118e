"""Which of the images cut for training and validation a run uses: the ratio, and the balance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stagetransfer.data import splits
from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError

Rows = NDArray[np.int64]


def thin(
    samples: Samples,
    whole: Mapping[str, Rows],
    *,
    ratio: float,
    by: str,
    seed: int,
    downsampled: bool,
    name: str,
) -> dict[str, Rows]:
    """The rows in use of "train", "validation" and "test".

    Args:
        whole: the sorted rows that were cut for each.
        ratio: share of training and validation that is used; every class keeps one for validation.
        by: what the ratio counts: "image", or "group" to take whole groups.
        downsampled: take as many training images of each class as the rarest has.
        name: the domain's, for messages.

    Raises:
        UserError: the ratio leaves a class empty, or is by groups where none are known.
    """
    rows = dict(whole)
    if ratio < 1:
        for split in ("train", "validation"):
            rows[split] = whole[split][_subset(samples, whole[split], ratio, by, seed, split, name)]
    if downsampled:
        train = whole["train"]
        chosen = np.searchsorted(train, rows["train"])
        rows["train"] = train[splits.downsample(samples.labels[train], chosen, seed)]
    return rows


def _subset(
    samples: Samples, rows: Rows, ratio: float, by: str, seed: int, split: str, name: str
) -> Rows:
    labels, classes, validation = samples.labels[rows], samples.classes, split == "validation"
    if by == "image":
        return splits.subset(labels, ratio, seed, classes=classes, at_least=int(validation))
    if samples.groups is None:
        raise UserError(f"ratio_by=group: domain.{name} knows no groups; use ratio_by=image")
    groups = [samples.groups[row] for row in rows]
    return splits.subset_by_group(
        labels, groups, ratio, seed, classes=classes, keep_classes=validation
    )
