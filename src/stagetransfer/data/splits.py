"""Cutting and thinning a labelled set: by class, never through a group, from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError

Rows = NDArray[np.int64]

_TRIES = 16  # shuffles among which the cut by group nearest to the share is chosen


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
        where: dict[str, str] = {}
        for group, split in zip(samples.groups, samples.splits, strict=True):
            if where.setdefault(group, split) != split:
                raise UserError(
                    f"the group (patient) {group!r} is in {where[group]} and in {split}: its "
                    f"images would be tested on themselves; move all of them to one side"
                )
    return rows


def hold_out(
    labels: NDArray[np.int64],
    groups: Sequence[str] | NDArray[np.str_] | None,
    share: float,
    seed: int,
    *,
    classes: Sequence[str],
    what: str,
    hint: str,
) -> tuple[Rows, Rows]:
    """Cuts off about `share` of the images: stratified by class and, with groups, whole groups.

    Args:
        labels: (N,) in [0, C).
        groups: (N,) names that no cut may divide, or None.
        share: of the images, in (0, 1).
        what: names the part that is cut off, for messages ("test").
        hint: the override that cuts by image, for messages.

    Returns:
        Row numbers that stay, and those cut off; both sorted, every class in both.

    Raises:
        UserError: a class has too few images or groups to be on both sides.
    """
    unit = "image" if groups is None else "group"
    units: NDArray[Any] = np.arange(len(labels)) if groups is None else np.asarray(groups)
    for label, name in enumerate(classes):
        count = len(np.unique(units[labels == label]))
        if count < 2:
            cure = f"; {hint} cuts by image" if groups is not None else "; add images"
            raise UserError(
                f"class {name} has {count} {unit}{'' if count == 1 else 's'}: too few for a "
                f"{what} set beside the training set{cure}"
            )
    if groups is None:
        held = _by_image(labels, share, seed)
    else:
        held = _by_group(labels, units, share, seed, len(classes))
    kept = np.setdiff1d(np.arange(len(labels)), held)
    for rows, side in ((kept, "training"), (held, what)):
        missing = np.setdiff1d(np.arange(len(classes)), labels[rows])
        if len(missing):
            names = classes[missing[0]]
            count = len(np.unique(units[labels == missing[0]]))
            raise UserError(
                f"class {names} has {count} groups and none of them can go to the {side} set "
                f"beside the others; {hint} cuts by image"
            )
    return kept, held


def _by_image(labels: NDArray[np.int64], share: float, seed: int) -> Rows:
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    # At least one of each class on either side, which rounding may not give for a rare class.
    if (np.floor(counts * share) >= 1).all() and (np.floor(counts * (1 - share)) >= 1).all():
        cut = StratifiedShuffleSplit(1, test_size=share, random_state=seed)
        return np.sort(next(cut.split(labels, labels))[1]).astype(np.int64)
    random = np.random.default_rng(seed)
    held: list[int] = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        held.extend(rows[: min(len(rows) - 1, max(1, round(share * len(rows))))])
    return np.sort(np.array(held, dtype=np.int64))


def _by_group(
    labels: NDArray[np.int64], groups: NDArray[Any], share: float, seed: int, classes: int
) -> Rows:
    """The best of several stratified cuts: every class on both sides, shares nearest to `share`."""
    rows, totals = np.arange(len(labels)), np.bincount(labels, minlength=classes)
    smaller = min(share, 1 - share)
    # More folds than a rare class has groups would leave it out of some; try both numbers.
    rarest = min(len(np.unique(groups[labels == label])) for label in range(classes))
    wanted = min(max(2, round(1 / smaller)), len(np.unique(groups)))
    best, best_score = rows, math.inf
    for attempt in range(_TRIES):
        folds = min(wanted, int(totals.min())) if attempt % 2 else min(wanted, rarest)
        cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed * _TRIES + attempt)
        for _, fold in cut.split(labels, labels, groups):
            held = fold if share <= 0.5 else np.setdiff1d(rows, fold)
            shares = np.bincount(labels[held], minlength=classes) / totals
            missing = np.sum((shares == 0) | (shares == 1))
            score = 1e3 * float(missing) + float(np.abs(shares - share).sum())
            if score < best_score:
                best, best_score = held, score
    return np.sort(best).astype(np.int64)


def subset(
    labels: NDArray[np.int64],
    ratio: float,
    seed: int,
    *,
    classes: Sequence[str],
    at_least: int = 0,
) -> Rows:
    """The share r of a set, class by class and nested: r = 0.2 lies within r = 0.4.

    Of a class with n images the first floor(r n + 1/2) of one permutation are taken, drawn from
    (seed, class) alone.

    Args:
        labels: (N,) in [0, C).
        ratio: r in (0, 1].
        at_least: images that every class keeps whatever the ratio.

    Returns:
        Sorted row numbers.

    Raises:
        UserError: the ratio leaves a class empty.
    """
    chosen = []
    for label, name in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        count = max(math.floor(ratio * len(rows) + 0.5), min(at_least, len(rows)))
        if count == 0:
            least = math.ceil(0.5 / max(len(rows), 1) * 1000) / 1000
            raise UserError(
                f"ratio={ratio:g} leaves class {name} no image of its {len(rows)}; the smallest "
                f"ratio that keeps one is {least:g}"
            )
        chosen.append(np.random.default_rng((seed, label)).permutation(rows)[:count])
    return np.sort(np.concatenate(chosen)).astype(np.int64)
