"""Training, validation and test images of a domain: the publisher's split, or images held out."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples

Rows = NDArray[np.int64]
Labels = NDArray[np.int64]  # (N,), from 0 on
Groups = Sequence[str] | NDArray[np.str_]

# The search for the best split by group.
_ORDERS = 64  # least number of random orders of the groups
_ORDERS_TIMES_GROUPS = 16384  # at least: with few groups, there are more orders
_PASSES = 4  # through all groups of an order; in a later one, a group may return to its side


def split_samples(
    samples: Samples,
    *,
    test_share: float | None,
    validation_share: float,
    by: str,
    seed: int,
    hint: str,
) -> dict[str, Rows]:
    """Return the rows of "train", "validation" and "test": official, or held out from training.

    `test_share` is in (0, 1), or None to hold out no test set; `validation_share` is that of the
    images that are left. `by` is "group" to keep known groups whole, or "image"; `hint` is the
    override that splits by image, for messages.
    """
    rows = official_splits(samples)
    if rows and "train" not in rows:
        raise UserError(f"the data have no training split, only {', '.join(rows)}")
    groups = None if samples.groups is None or by == "image" else np.array(samples.groups)
    train = rows.get("train", np.arange(len(samples)))
    for split, share in (("test", test_share), ("validation", validation_share)):
        if share is None:
            rows.setdefault(split, np.array([], dtype=np.int64))
        elif split not in rows:
            labels, own = samples.labels[train], None if groups is None else groups[train]
            kept, held = hold_out(labels, own, share, seed, split, hint, samples.classes)
            train, rows[split] = train[kept], train[held]
    return {"train": train, "validation": rows["validation"], "test": rows["test"]}


def official_splits(samples: Samples) -> dict[str, Rows]:
    """Return the rows of each split that the publisher fixed; empty if there are none."""
    if samples.splits is None:
        return {}
    column = np.array(samples.splits)
    rows = {name: np.flatnonzero(column == name) for name in dict.fromkeys(samples.splits)}
    if samples.groups is not None:
        check_disjoint(samples.groups, rows)
    return rows


def check_disjoint(groups: Groups, parts: Mapping[str, Rows], where: str = "") -> None:
    """Raise UserError, after `where`, if a group (N,) has rows in two of the parts."""
    part_of: dict[str, str] = {}
    for row, part in sorted((int(row), part) for part, rows in parts.items() for row in rows):
        group = str(groups[row])
        if part_of.setdefault(group, part) != part:
            raise UserError(
                f"{where}the group (patient) {group!r} is in {part_of[group]} and in {part}: the "
                "network would be tested on patients that it was trained on. Move all images of "
                "the group to one part."
            )


def hold_out(
    labels: Labels,
    groups: Groups | None,
    share: float,
    seed: int,
    what: str,
    hint: str,
    classes: Sequence[str],
) -> tuple[Rows, Rows]:
    """Hold out about `share` of every class: single images, or whole groups if groups are given.

    By image, floor(share n + 1/2) of a class's n images are held out, but at least one and not all.
    By group, the best of many random splits is taken: every class is on both sides, and the sum
    over the classes of (held-out share of the class - `share`)^2 is the least. Return the rows that
    are kept, and those that are held out; both sorted. A class that cannot be on both sides is a
    UserError. Labels (N,) are in [0, C). The name of the held-out part ("test"), the override that
    splits by image and the names of the C classes are for messages.
    """
    if not 0 < share < 1:
        raise UserError(f"the {what} share is {share:g}: it must lie between 0 and 1")
    unit, cure = ("image", "add images") if groups is None else ("group", f"{hint} splits by image")
    units = pd.Series(np.arange(len(labels)) if groups is None else groups)
    counts = units.groupby(labels).nunique().reindex(range(len(classes)), fill_value=0).tolist()
    for name, number in zip(classes, counts, strict=True):
        if number < 2:
            raise UserError(
                f"class {name} has {number} {unit}{'' if number == 1 else 's'}: too few for a "
                f"{what} set beside the training set; {cure}"
            )
    if groups is None:
        orders = permuted_classes(labels, len(classes), seed)
        sizes = [min(max(round_half_up(share * len(x)), 1), len(x) - 1) for x in orders]
        held = first_of_each(orders, sizes)
    else:
        held = _hold_out_groups(labels, groups, share, seed, len(classes))
    kept = np.delete(np.arange(len(labels)), held)
    for rows, side in ((kept, "training"), (held, what)):
        images = np.bincount(labels[rows], minlength=len(classes))
        for label in np.flatnonzero(images == 0)[:1]:
            raise UserError(
                f"class {classes[label]} has {counts[label]} groups and none of them can go to the "
                f"{side} set beside the other classes' groups; {cure}"
            )
    return kept, held


def permuted_classes(labels: Labels, classes: int, seed: int) -> list[Rows]:
    """Return the rows of each class in a random order, which depends on (seed, class) alone."""
    # One sort for all classes: a comparison with all labels for each of 1,000 classes is slow.
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(labels, minlength=classes))[:-1])
    return [np.random.default_rng((seed, i)).permutation(rows) for i, rows in enumerate(parts)]


def first_of_each(orders: Iterable[Rows], counts: Iterable[int]) -> Rows:
    """Return the first rows of each order, sorted."""
    return np.sort(np.concatenate([rows[:n] for rows, n in zip(orders, counts, strict=True)]))


def _hold_out_groups(labels: Labels, groups: Groups, share: float, seed: int, classes: int) -> Rows:
    """Improve many random splits side by side and return the best one.

    In each split, group after group in the split's own random order changes sides if that brings
    the split closer to the goal.
    """
    group_of_row, counts = count_by_group(labels, groups, classes)
    totals = counts.sum(0)

    def distance(held: NDArray[np.int64]) -> NDArray[np.float64]:
        absent = (held == 0) | (held == totals)
        # Each of the C squares is below 1, so no gain in them outweighs an absent class.
        return np.asarray(np.sum(classes * absent + (held / totals - share) ** 2, axis=1))

    random = np.random.default_rng(seed)
    splits = np.arange(max(_ORDERS, _ORDERS_TIMES_GROUPS // len(counts)))
    orders = random.permuted(np.tile(np.arange(len(counts)), (len(splits), 1)), axis=1)
    held = np.zeros((len(splits), classes), dtype=np.int64)
    chosen = np.zeros((len(splits), len(counts)), dtype=bool)
    current = distance(held)
    for group in np.tile(orders.T, (_PASSES, 1)):
        changed = held + np.where(chosen[splits, group], -1, 1)[:, None] * counts[group]
        changed_distance = distance(changed)
        better = changed_distance < current
        held[better], current[better] = changed[better], changed_distance[better]
        chosen[splits[better], group[better]] ^= True
    return np.flatnonzero(chosen[np.argmin(current)][group_of_row])


def count_by_group(
    labels: Labels, groups: Groups, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (N,) group number of each row, and (G, C) images of each class in each group."""
    names, group_of_row = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), classes), dtype=np.int64)
    np.add.at(counts, (group_of_row, labels), 1)
    return group_of_row, counts


def round_half_up(count: float) -> int:
    """Return floor(count + 1/2)."""
    return math.floor(count + 0.5)
