"""Cutting and thinning a labelled set: by class, never through a group, from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError

Rows = NDArray[np.int64]
Groups = Sequence[str] | NDArray[np.str_]

_TRIES = 64  # random orders among which the cut by group nearest to the share is chosen,
_TRIED = 16384  # and more where groups are few: tries x groups, at least
_PASSES = 4  # through all groups in that order; a later one can take back what an earlier one did


def official(samples: Samples) -> dict[str, Rows]:
    """Row numbers of the publisher's splits; empty where there are none.

    Raises:
        UserError: a group is on both sides.
    """
    if samples.splits is None:
        return {}
    column = np.array(samples.splits)
    rows = {name: np.flatnonzero(column == name) for name in dict.fromkeys(samples.splits)}
    if samples.groups is not None:
        refuse_shared(samples.groups, rows)
    return rows


def check_disjoint(groups: Groups, *row_sets: Rows) -> None:
    """Checks that no group has rows in two of the sets.

    Raises:
        UserError: names a group that has, and the sets as part 1, part 2, ...
    """
    refuse_shared(groups, {f"part {i}": rows for i, rows in enumerate(row_sets, 1)})


def refuse_shared(groups: Groups, parts: Mapping[str, Rows], where: str = "") -> None:
    """As `check_disjoint`, with the sets' names; `where` ("splits.csv: ") begins the message."""
    side: dict[str, str] = {}
    for row, part in sorted((int(row), part) for part, rows in parts.items() for row in rows):
        group = str(groups[row])
        if side.setdefault(group, part) != part:
            raise UserError(
                f"{where}the group (patient) {group!r} is in {side[group]} and in {part}: its "
                f"images would be tested on themselves; move all of them to one side"
            )


def hold_out(
    labels: NDArray[np.int64],
    groups: Groups | None,
    share: float,
    seed: int,
    *,
    what: str,
    hint: str,
    classes: Sequence[str] | None = None,
) -> tuple[Rows, Rows]:
    """Cuts off about `share` of every class: by image, or whole groups where they are given.

    By image, floor(share n + 1/2) of a class's n images are cut off, but at least one and not
    all. By group, it is the best of many random cuts: every class on both sides, then the least
    sum over the classes of (share of the class's images that is cut off - `share`)^2.

    Args:
        labels: (N,) in [0, C).
        groups: (N,) names that no cut may divide, or None.
        share: in (0, 1).
        what: names the part that is cut off, for messages ("test").
        hint: the override that cuts by image, for messages.
        classes: C names for messages; default the labels. Each must be on both sides.

    Returns:
        Row numbers that stay, and those cut off; both sorted.

    Raises:
        UserError: a class has too few images or groups to be on both sides.
    """
    if not 0 < share < 1:
        raise UserError(f"the {what} share is {share:g}: it must lie between 0 and 1")
    classes = _names(labels, classes)
    units: NDArray[Any] = np.arange(len(labels)) if groups is None else np.asarray(groups)
    unit, cure = ("image", "add images") if groups is None else ("group", f"{hint} cuts by image")
    if groups is None:
        count = np.bincount(labels, minlength=len(classes)).tolist()
    else:
        count = [len(np.unique(units[labels == label])) for label in range(len(classes))]
    for name, number in zip(classes, count, strict=True):
        if number < 2:
            raise UserError(
                f"class {name} has {number} {unit}{'' if number == 1 else 's'}: too few for a "
                f"{what} set beside the training set; {cure}"
            )
    if groups is None:
        held = _cut_by_image(labels, share, seed)
    else:
        held = _cut_by_group(labels, units, share, seed, len(classes))
    kept = np.delete(np.arange(len(labels)), held)
    for rows, side in ((kept, "training"), (held, what)):
        there = np.bincount(labels[rows], minlength=len(classes))
        for label in np.flatnonzero(there == 0)[:1]:
            raise UserError(
                f"class {classes[label]} has {count[label]} groups and none of them can go to the "
                f"{side} set beside the other classes' groups; {cure}"
            )
    return kept, held


def _cut_by_image(labels: NDArray[np.int64], share: float, seed: int) -> Rows:
    held = []
    order = np.argsort(
        labels, kind="stable"
    )  # once: a look at all for each of 1000 classes is slow
    counts = np.bincount(labels)
    for label, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        if len(rows) == 0:
            continue
        count = min(max(_rounded(share * len(rows)), 1), len(rows) - 1)
        held.append(np.random.default_rng((seed, label)).permutation(rows)[:count])
    return np.sort(np.concatenate(held))


def _cut_by_group(
    labels: NDArray[np.int64], groups: NDArray[np.str_], share: float, seed: int, classes: int
) -> Rows:
    """All tries side by side: group after group, in each try's own order, changes sides where
    that brings the try nearer to the goal."""
    of_row, counts = _count(labels, groups, classes)
    totals = counts.sum(0)

    def distance(held: NDArray[np.int64]) -> NDArray[np.float64]:
        absent = (held == 0) | (held == totals)
        # A square is below 1 and there are C of them: no gain there outweighs an absent class.
        return np.asarray(np.sum(classes * absent + (held / totals - share) ** 2, axis=1))

    random = np.random.default_rng(seed)
    tries = np.arange(max(_TRIES, _TRIED // len(counts)))
    orders = random.permuted(np.tile(np.arange(len(counts)), (len(tries), 1)), axis=1)
    held = np.zeros((len(tries), classes), dtype=np.int64)
    chosen = np.zeros((len(tries), len(counts)), dtype=bool)
    now = distance(held)
    for group in np.tile(orders.T, (_PASSES, 1)):
        changed = held + np.where(chosen[tries, group], -1, 1)[:, None] * counts[group]
        then = distance(changed)
        nearer = then < now
        held[nearer], now[nearer] = changed[nearer], then[nearer]
        chosen[tries[nearer], group[nearer]] ^= True
    return np.flatnonzero(chosen[np.argmin(now)][of_row])


def subset(
    labels: NDArray[np.int64],
    ratio: float,
    seed: int,
    *,
    classes: Sequence[str] | None = None,
    at_least: int = 0,
) -> Rows:
    """The share r of a set, class by class and nested: r = 0.2 lies within r = 0.4.

    Of a class with n images the first floor(r n + 1/2) of one permutation are taken, drawn from
    (seed, class) alone.

    Args:
        labels: (N,) in [0, C).
        ratio: r in (0, 1].
        classes: C names for messages; default the labels.
        at_least: images that every class keeps whatever the ratio.

    Returns:
        Sorted row numbers.

    Raises:
        UserError: the ratio leaves a class empty, or isn't in (0, 1].
    """
    _check_ratio(ratio)
    names = _names(labels, classes)
    sizes = [int(np.sum(labels == label)) for label in range(len(names))]
    counts = [max(_rounded(ratio * size), min(at_least, size)) for size in sizes]
    emptied = [label for label, count in enumerate(counts) if sizes[label] and not count]
    if emptied:
        rarest = min(emptied, key=sizes.__getitem__)
        raise UserError(
            f"ratio={ratio:g} leaves class {names[rarest]} no image of its {sizes[rarest]}; the "
            f"smallest ratio that keeps one is {_rounded_up(0.5 / sizes[rarest]):g}"
        )
    chosen = [
        np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(counts)
    ]
    return np.sort(np.concatenate(chosen))


def subset_by_group(
    labels: NDArray[np.int64],
    groups: Groups,
    ratio: float,
    seed: int,
    *,
    classes: Sequence[str] | None = None,
    keep_classes: bool = False,
) -> Rows:
    """The share r of a set in whole groups: nested, and every class as near to r as they allow.

    The groups stand in one order, drawn from the seed alone, and those whose turn comes before r
    are taken. With s_c the share of class c that the groups before hold and d_c what group g
    adds, adding g lessens sum_c (s_c - r)^2 as soon as r > sum_c d_c (s_c + d_c / 2) / sum_c d_c:
    that is the turn of g. Each class has a queue, in random order, of the groups that add most to
    it, and next is always the head with the earliest turn. Where every group is of one class, no
    class is farther from r than half a group.

    Args:
        labels: (N,) in [0, C).
        groups: (N,) names of what is taken whole.
        ratio: r in (0, 1].
        classes: C names for messages; default the labels.
        keep_classes: take more than r where r alone would leave a class empty.

    Returns:
        Sorted row numbers.

    Raises:
        UserError: the ratio leaves a class empty, or isn't in (0, 1].
    """
    _check_ratio(ratio)
    names = _names(labels, classes)
    of_row, counts = _count(labels, np.asarray(groups), len(names))
    turns = _turns(counts, seed)
    has = counts > 0  # a class without a group was empty before: nothing to refuse
    first = np.where(has, turns[:, None], 1.0).min(axis=0) * has.any(axis=0)
    latest = int(np.argmax(first))
    if keep_classes:
        ratio = max(ratio, float(first[latest]))
    if first[latest] > ratio:
        raise UserError(
            f"ratio={ratio:g} leaves class {names[latest]} none of its "
            f"{has[:, latest].sum()} groups; the smallest ratio that keeps one is "
            f"{_rounded_up(first[latest]):g}"
        )
    return np.flatnonzero((turns <= ratio)[of_row])


def downsample(labels: NDArray[np.int64], chosen: Rows, seed: int) -> Rows:
    """As many of the chosen rows of each class as the rarest among them has.

    Of each class the first are taken in one permutation of all its rows, that of `subset`: so
    down-sampled subsets of one seed by image are nested too.

    Args:
        labels: (N,) of the whole set.
        chosen: row numbers, of every class that shall remain.

    Returns:
        Sorted row numbers, a part of `chosen`.
    """
    present, counts = np.unique(labels[chosen], return_counts=True)
    kept = []
    for label in present:
        order = np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))
        kept.append(order[np.isin(order, chosen)][: counts.min()])
    return np.sort(np.concatenate(kept))


def _turns(counts: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """(G,) the ratio from which on each group is taken, in (0, 1); see `subset_by_group`."""
    added = counts / np.maximum(counts.sum(0), 1)
    order = np.random.default_rng(seed).permutation(len(counts))
    main = added.argmax(1)[order]
    queues = [list(order[main == label]) for label in range(counts.shape[1])]
    turns = np.zeros(len(counts))
    held = np.zeros(counts.shape[1])
    last = 0.0
    while any(queues):
        nexts = np.array([queue[-1] for queue in queues if queue])
        share = added[nexts]
        when = np.sum(share * (held + share / 2), axis=1) / share.sum(1)
        first = np.argmin(when)
        group = nexts[first]
        last = max(last, float(when[first]))  # never before an earlier group: that nests them
        turns[group] = last
        held += added[group]
        queues[added[group].argmax()].pop()
    return turns


def _count(
    labels: NDArray[np.int64], groups: NDArray[np.str_], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) number of each row's group, and (G, C) images of each class in each group."""
    names, of_row = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), classes), dtype=np.int64)
    np.add.at(counts, (of_row, labels), 1)
    return of_row, counts


def _names(labels: NDArray[np.int64], classes: Sequence[str] | None) -> Sequence[str]:
    return (
        [str(label) for label in range(labels.max(initial=-1) + 1)] if classes is None else classes
    )


def _check_ratio(ratio: float) -> None:
    if not 0 < ratio <= 1:
        raise UserError(f"ratio={ratio:g}: must be above 0 and at most 1")


def _rounded(count: float) -> int:
    return math.floor(count + 0.5)


def _rounded_up(ratio: float) -> float:
    """To three significant digits, up: the ratio that a message names must do what it says."""
    unit = 10.0 ** (math.floor(math.log10(ratio)) - 2)
    return math.ceil(ratio / unit) * unit
