"""The subset of images that a run uses: the ratio, a long tail of classes, and down-sampling."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stagetransfer.config.domain_settings import StageSettings
from stagetransfer.data.holdout import (
    Groups,
    Labels,
    Rows,
    count_by_group,
    first_of_each,
    permuted_classes,
    round_half_up,
)
from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples


def subset_of_splits(
    samples: Samples, splits: Mapping[str, Rows], stage: StageSettings, tail: float | None = None
) -> dict[str, Rows]:
    """Return the rows of "train", "validation" and "test" that a run uses.

    The ratio applies to training and validation images alike: a study with a fifth of the labels
    has a fifth of them to choose its checkpoint with, too. The test set stays whole, and validation
    keeps at least one image of each class at any ratio. `splits` has the sorted rows of each split.
    A `tail` leaves classes fewer training images, see `long_tail`.
    """
    used, ratio, seed, by_group = dict(splits), stage.ratio, stage.seed, stage.ratio_by == "group"
    if ratio < 1 and by_group and samples.groups is None:
        raise UserError(f"ratio_by=group: {stage.key} knows no groups. Use ratio_by=image.")
    for split in ("train", "validation") if ratio < 1 else ():
        rows, keep = splits[split], split == "validation"
        labels, classes = samples.labels[rows], samples.classes
        if by_group and samples.groups is not None:
            groups = [samples.groups[row] for row in rows]
            chosen = subset_by_group(labels, groups, ratio, seed, classes, keep_classes=keep)
        else:
            chosen = subset_by_image(labels, ratio, seed, classes, keep_classes=keep)
        used[split] = rows[chosen]
    train = splits["train"]
    labels, chosen = samples.labels[train], np.searchsorted(train, used["train"])
    if tail is not None:
        chosen = long_tail(labels, chosen, tail, seed)
    if stage.downsampled:
        chosen = downsample(labels, chosen, seed)
    return used | {"train": train[chosen]}


def subset_by_image(
    labels: Labels, ratio: float, seed: int, classes: Sequence[str], *, keep_classes: bool = False
) -> Rows:
    """Return the share r of every class; subsets are nested (r = 0.2 lies within r = 0.4).

    Of a class with n images, the first floor(r n + 1/2) of one permutation are taken. The
    permutation depends on (seed, class) alone. With `keep_classes`, every class keeps at least one
    image at any ratio; without it, a class that the ratio leaves empty is a UserError. The labels
    (N,) are in [0, C), the ratio is in (0, 1], and the C `classes` are names for messages.
    """
    orders = permuted_classes(labels, len(classes), seed)
    sizes = [len(rows) for rows in orders]
    counts = [max(round_half_up(ratio * size), min(int(keep_classes), size)) for size in sizes]
    if emptied := [label for label, count in enumerate(counts) if sizes[label] and not count]:
        rarest = min(emptied, key=sizes.__getitem__)
        raise UserError(
            f"ratio={ratio:g} leaves class {classes[rarest]} no image of its {sizes[rarest]}; the "
            f"smallest ratio that keeps one is {_rounded_up(0.5 / sizes[rarest]):g}"
        )
    return first_of_each(orders, counts)


def subset_by_group(
    labels: Labels,
    groups: Groups,
    ratio: float,
    seed: int,
    classes: Sequence[str],
    *,
    keep_classes: bool = False,
) -> Rows:
    """Return the share r of a set in whole groups: nested, every class as near to r as possible.

    The seed alone decides the order of the groups and the ratio from which on each is taken. Let
    s_c be the share of class c in the groups taken before, and d_c the share that group g adds.
    Adding g lowers sum_c (s_c - r)^2 if r > sum_c d_c (s_c + d_c / 2) / sum_c d_c. This bound is
    the ratio from which on g is taken. Each class has a queue, in random order, of the groups that
    add most to it; of the first groups of all queues, the one with the lowest bound is next. If
    every group is of one class, no class is farther from r than half a group.

    The arguments are those of `subset_by_image`. With `keep_classes`, more than r is taken if r
    alone would leave a class empty.
    """
    group_of_row, counts = count_by_group(labels, groups, len(classes))
    taken_from = _ratio_of_each_group(counts, seed)
    has = counts > 0  # a class without any group was empty before the ratio was applied
    first = np.where(has, taken_from[:, None], 1.0).min(axis=0) * has.any(axis=0)
    latest = int(np.argmax(first))
    if keep_classes:
        ratio = max(ratio, float(first[latest]))
    if first[latest] > ratio:
        raise UserError(
            f"ratio={ratio:g} leaves class {classes[latest]} none of its "
            f"{has[:, latest].sum()} groups; the smallest ratio that keeps one is "
            f"{_rounded_up(first[latest]):g}"
        )
    return np.flatnonzero((taken_from <= ratio)[group_of_row])


def downsample(labels: Labels, chosen: Rows, seed: int) -> Rows:
    """Return as many of the chosen rows of each class as its rarest class has, sorted.

    Their order in all `labels` is that of `subset_by_image`, so that these subsets are nested too.
    """
    counts = np.bincount(labels[chosen], minlength=labels.max() + 1)
    return _first(labels, chosen, np.minimum(counts, counts[counts > 0].min()), seed)


def long_tail(labels: Labels, chosen: Rows, tail: float, seed: int) -> Rows:
    """Return fewer of the chosen rows of rarer classes, sorted; every class keeps one.

    The C classes are ordered by the number of their `labels`, the most frequent first (equal ones
    by their place). Class k of 0 .. C - 1 keeps the share tail ** (k / (C - 1)) of its chosen rows,
    so the last one keeps the share `tail` (Cui et al. 2019, CVPR). The order within a class is that
    of `subset_by_image`, so a shorter tail lies within a longer one.
    """
    present, sizes = np.unique(labels, return_counts=True)
    counts = np.bincount(labels[chosen], minlength=labels.max() + 1)
    for place, label in enumerate(present[np.argsort(-sizes, kind="stable")]):
        share = tail ** (place / max(len(present) - 1, 1))
        counts[label] = max(round_half_up(share * counts[label]), 1)
    return _first(labels, chosen, counts, seed)


def _first(labels: Labels, chosen: Rows, counts: NDArray[np.int64], seed: int) -> Rows:
    """Return the first chosen rows of each class in the order of `subset_by_image`, sorted."""
    orders = permuted_classes(labels, len(counts), seed)
    return first_of_each((rows[np.isin(rows, chosen)] for rows in orders), counts)


def _ratio_of_each_group(counts: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return the (G,) ratio in (0, 1) from which on each group is taken; see `subset_by_group`."""
    added = counts / np.maximum(counts.sum(0), 1)
    order = np.random.default_rng(seed).permutation(len(counts))
    main = added.argmax(1)[order]
    queues = [list(order[main == label]) for label in range(counts.shape[1])]
    taken_from, held, last = np.zeros(len(counts)), np.zeros(counts.shape[1]), 0.0
    while any(queues):
        heads = np.array([queue[-1] for queue in queues if queue])
        share = added[heads]
        bounds = np.sum(share * (held + share / 2), axis=1) / share.sum(1)
        first = np.argmin(bounds)
        group = heads[first]
        last = max(last, float(bounds[first]))  # never below an earlier group: subsets are nested
        taken_from[group] = last
        held += added[group]
        queues[added[group].argmax()].pop()
    return taken_from


def _rounded_up(ratio: float) -> float:
    """Round up to three significant digits, so that the ratio in a message does keep the class."""
    unit = 10.0 ** (math.floor(math.log10(ratio)) - 2)
    return math.ceil(ratio / unit) * unit
