"""Which images and which seeds each resample of a study holds, as weights.

A study is one test set, judged by the runs of several seeds. Its seeds are resampled, and within
its test set the groups (patients): both with replacement, all images of a group together. The
groups are drawn within strata. One fewer than there are is drawn, of seeds and in each stratum,
and groups weigh more in turn: so a variance over resamples is without bias (Rao and Wu 1988, J.
Am. Stat. Assoc. 83), where drawing as many as there are would make it (n - 1) / n of that.

Strata. A group belongs to the rarest of its classes, that which the fewest groups hold. If a
class then has no stratum whose groups all hold it, the stratum with most of its groups is divided
into those that hold it and those that do not. So each class has a stratum of its own holders:
a class without one has its holders beside non-holders, dividing leaves neither part empty, and a
part of a stratum whose groups all hold a class is such a stratum as well. At least one group of
each stratum is drawn: no class vanishes from any resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

MIN_GROUPS = 10


@dataclass(frozen=True)
class Resamples:
    """B resamples of one test set with n images in G groups, and of S seeds.

    weights: (1 + B + D, G), how much each group counts: in the test set as it is (row 0, ones), in
    each resample, and in each of the D test sets that leave out one group and let the others of
    its stratum count more; left out are the groups that are not alone in their stratum.
    seeds: (B, S), how often each seed is drawn; all ones if there is but one.
    """

    classes: tuple[str, ...]
    labels: Integers
    groups: Integers
    strata: Integers
    weights: Array
    seeds: Array

    @property
    def count(self) -> int:
        """B."""
        return len(self.seeds)

    @property
    def drawn(self) -> slice:
        """The rows of the weights that are resamples."""
        return slice(1, 1 + self.count)

    @property
    def left_out(self) -> list[tuple[int, slice]]:
        """Of each stratum with two groups or more: their number, and their rows in the weights."""
        sizes = [int(size) for size in np.bincount(self.strata) if size > 1]
        ends = 1 + self.count + np.cumsum(sizes, dtype=int)
        return [(n, slice(end - n, end)) for n, end in zip(sizes, ends.tolist(), strict=True)]


def resample(
    labels: ArrayLike,
    groups: ArrayLike | None,
    classes: Sequence[str],
    *,
    seeds: int,
    count: int = 2000,
    random_state: int = 0,
) -> Resamples:
    """Draws the resamples that all conditions on a test set share, so that they are compared in
    pairs.

    labels: (n,) integers, positions in `classes`. groups: (n,) names or numbers, or None where
    none are known: then each image is a group. seeds: their number S. The order of the images does
    not matter, that of the groups' names does, as another random_state would. Raises ValueError
    if the lengths differ or a number is below 1.
    """
    y = np.asarray(labels, np.int64)
    names = np.arange(len(y)) if groups is None else np.asarray(groups)
    if y.ndim != 1 or names.shape != y.shape:
        raise ValueError(f"labels and groups must be (n,), not {y.shape} and {names.shape}")
    if seeds < 1 or count < 1:
        raise ValueError(f"seeds and count must be 1 or more, not {seeds} and {count}")
    _, group = np.unique(names, return_inverse=True)
    stratum = divide(_holds(y, group, len(classes)))
    random = np.random.default_rng(random_state)
    drawn_seeds = random.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), count)
    drawn = np.ones((count, len(stratum)))
    left_out = [np.empty((0, len(stratum)))]
    for number in range(stratum.max() + 1):
        (members,) = np.nonzero(stratum == number)
        n = len(members)
        if n > 1:
            factor = n / (n - 1)
            drawn[:, members] = factor * random.multinomial(n - 1, np.full(n, 1 / n), count)
            without = np.ones((n, len(stratum)))
            without[:, members] = factor * (1 - np.eye(n))
            left_out.append(without)
    weights = np.concatenate([np.ones((1, len(stratum))), drawn, *left_out])
    return Resamples(
        tuple(classes), y, group.astype(np.int64), stratum, weights, drawn_seeds.astype(np.float64)
    )


def divide(holds: Flags) -> Integers:
    """The stratum 0, 1, ... of each group, from the classes it holds: (G, C) to (G,)."""
    holders = holds.sum(0)
    stratum = np.where(holds, holders, np.iinfo(np.int64).max).argmin(1)
    for i in np.nonzero(holders)[0]:
        own, of_others = (
            np.bincount(stratum[of], minlength=sum(holds.shape))
            for of in (holds[:, i], ~holds[:, i])
        )
        if not ((own > 0) & (of_others == 0)).any():
            stratum[(stratum == own.argmax()) & holds[:, i]] = stratum.max() + 1
    return np.unique(stratum, return_inverse=True)[1].astype(np.int64)


def few_groups(
    labels: ArrayLike, groups: ArrayLike | None, classes: Sequence[str]
) -> dict[str, int]:
    """The classes with fewer than MIN_GROUPS groups, and how many they have.

    Where it is not empty, intervals of these classes and of macro averages are not to be trusted:
    a handful of patients does not show how patients differ.
    """
    y = np.asarray(labels, np.int64)
    names = np.arange(len(y)) if groups is None else np.asarray(groups)
    holders = _holds(y, np.unique(names, return_inverse=True)[1], len(classes)).sum(0)
    return {name: int(n) for name, n in zip(classes, holders, strict=True) if n < MIN_GROUPS}


def _holds(labels: Integers, group: NDArray[np.intp], num_classes: int) -> Flags:
    holds = np.zeros((int(group.max()) + 1, num_classes), np.bool_)
    holds[group, labels] = True
    return holds
