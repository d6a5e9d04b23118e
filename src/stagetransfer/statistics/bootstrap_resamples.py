"""Which images and which seeds each resample of a study contains, as weights.

A study is one test set with the runs of several seeds. Its seeds are resampled, and within the test
set its groups (patients): both with replacement, and all images of a group together. If the seed of
the source stages varies on its own, it is a third factor that is drawn in the same way, and a run
counts as often as its seed is drawn times as often as its source seed is drawn (Owen 2007, Ann.
Appl. Stat. 1). Groups are drawn within strata. Of n seeds, or n groups of a stratum, n - 1 are
drawn, and groups get a larger weight in return. The variance over resamples is then unbiased (Rao
and Wu 1988, J. Am. Stat. Assoc. 83); drawing n would make it (n - 1) / n of the right one.

Strata. A group belongs to its rarest class, that which the fewest groups contain. If a class then
has no stratum in which all groups contain it, the stratum with most of its groups is divided into
groups that contain it and groups that do not. So each class gets a stratum of its own: neither part
of a divided stratum is empty, and if all its groups contain another class, so do those of both
parts. At least one group of each stratum is drawn, so no class vanishes from a resample.

A stratum of one group would be drawn in every resample, as if groups like it did not differ. It is
joined with another one (collapsed strata, Cochran 1977, Sampling Techniques, section 5A.12), if
possible so that each class keeps its stratum. If not, a class can be missing in a resample; figures
that need it are not defined there, and `intervals` leaves the resample out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stagetransfer.statistics.metrics import Array, Integers

Flags = NDArray[np.bool_]

MIN_GROUPS = 10


@dataclass(frozen=True)
class Resamples:
    """B resamples of one test set with n images in G groups, and of the seeds of S runs.

    Attributes:
        labels, groups, strata: each image's class and group (n,), and each group's stratum (G,).
        weights: (1 + B + D, G), how much each group counts. Row 0 is the test set as it is (ones).
            B rows are the resamples. The last D rows each leave out one group: first those that
            share their stratum, and the others of it count more; then, if a class has a single
            group, this one.
        alone: the classes that have a single group. How their groups differ is unknown.
        factors: (B, S) each, how often the seed (and the source seed) of each run is drawn; ones if
            there is only one.
        levels: the number of different seeds, or source seeds if fewer; without those that do not
            vary, and 1 if neither does.
    """

    classes: tuple[str, ...]
    labels: Integers
    groups: Integers
    strata: Integers
    weights: Array
    alone: tuple[str, ...]
    factors: tuple[Array, ...]
    levels: int

    @property
    def seeds(self) -> Array:
        """How often each run counts (B, S): the product of the factors."""
        return np.asarray(np.prod(self.factors, axis=0))

    @property
    def drawn(self) -> slice:
        """The rows of the weights that are resamples."""
        return slice(1, 1 + len(self.factors[0]))

    @property
    def left_out(self) -> list[tuple[int, slice]]:
        """For each stratum of two or more groups: their number, and their rows in the weights."""
        sizes = [int(size) for size in np.bincount(self.strata) if size > 1]
        ends = self.drawn.stop + np.cumsum(sizes, dtype=int)
        return [(n, slice(end - n, end)) for n, end in zip(sizes, ends.tolist(), strict=True)]

    @property
    def without_one_alone(self) -> slice:
        """The rows of the weights that leave out the single group of a class."""
        return slice(self.drawn.stop + sum(n for n, _ in self.left_out), len(self.weights))


def resample(
    labels: ArrayLike,
    groups: ArrayLike | None,
    classes: Sequence[str],
    *,
    seeds: int,
    count: int = 2000,
    random_state: int = 0,
) -> Resamples:
    """Draw the resamples that all conditions on a test set share, so that comparisons are paired.

    Labels (n,) are positions in `classes`; without groups (n,), each image is one. The result does
    not depend on the order of the images, but on the sort order of the groups' names.
    """
    y, group, holds = _classes_of_groups(labels, groups, len(classes))
    if seeds < 1 or count < 1:
        raise ValueError(f"seeds and count must be 1 or more, not {seeds} and {count}")
    stratum = join_single_groups(holds, divide_strata(holds))
    random = np.random.default_rng(random_state)
    drawn_seeds = _draw(random, seeds, count)
    drawn = np.ones((count, len(stratum)))
    left_out = [np.empty((0, len(stratum)))]
    for number in range(stratum.max() + 1):
        (members,) = np.nonzero(stratum == number)
        if (n := len(members)) > 1:
            factor = n / (n - 1)
            drawn[:, members] = factor * random.multinomial(n - 1, np.full(n, 1 / n), count)
            without = np.ones((n, len(stratum)))
            without[:, members] = factor * (1 - np.eye(n))
            left_out.append(without)
    single = holds.sum(0) == 1
    alone = np.unique(holds[:, single].argmax(0))
    left_out.append(1 - np.eye(len(stratum))[alone])
    weights = np.concatenate([np.ones((1, len(stratum))), drawn, *left_out])
    names = tuple(name for name, flag in zip(classes, single.tolist(), strict=True) if flag)
    return Resamples(tuple(classes), y, group, stratum, weights, names, (drawn_seeds,), seeds)


def cross_seeds(resamples: Resamples, *factors: ArrayLike) -> Resamples:
    """Return the same resamples of the test set, for S runs with these seeds (and source seeds).

    Each of the `factors` (S,) that varies is drawn on its own, and independently of the groups.
    """
    count, found, levels = len(resamples.factors[0]), list[Array](), list[int]()
    for state, factor in enumerate(factors, 1):
        names, position = np.unique(np.asarray(factor), return_inverse=True)
        if state == 1 or len(names) > 1:
            found.append(_draw(np.random.default_rng(state), len(names), count)[:, position])
            levels.append(len(names))
    varying = [number for number in levels if number > 1]
    return replace(resamples, factors=tuple(found), levels=min(varying, default=1))


def _draw(random: np.random.Generator, number: int, count: int) -> Array:
    """Return how often each of `number` seeds is drawn (count, number)."""
    drawn = random.multinomial(max(number - 1, 1), np.full(number, 1 / number), count)
    return drawn.astype(np.float64)


def divide_strata(holds: Flags) -> Integers:
    """Return the stratum 0, 1, ... of each group (G,), from the classes it contains (G, C)."""
    holders = holds.sum(0)
    stratum = np.where(holds, holders, np.iinfo(np.int64).max).argmin(1)
    for i in np.nonzero(holders)[0]:
        own = stratum[holds[:, i]]
        if not np.setdiff1d(own, stratum[~holds[:, i]]).size:
            most = np.bincount(own).argmax()
            stratum[(stratum == most) & holds[:, i]] = stratum.max() + 1
    return np.unique(stratum, return_inverse=True)[1].astype(np.int64)


def join_single_groups(holds: Flags, stratum: Integers) -> Integers:
    """Return strata in which no group is alone, unless it is the only group of a class.

    `holds` (G, C) are the classes of each group, `stratum` (G,) its stratum from 0. A single group
    joins the stratum that contains most of its classes.
    """

    def joined(single: int, other: int) -> tuple[Integers, tuple[bool, float]]:
        result = np.where(stratum == single, other, stratum)
        parts = [holds[result == number].all(0) for number in np.unique(result)]
        shared = holds[stratum == other][:, holds[stratum == single][0]].mean()
        return result, (bool(np.any(parts, axis=0)[holds.any(0)].all()), float(shared))

    several = holds.sum(0) > 1
    for number in np.unique(stratum).tolist():
        members, others = holds[stratum == number], np.setdiff1d(stratum, number).tolist()
        if len(members) == 1 and others and several[members[0]].all():
            stratum, _ = max((joined(number, one) for one in others), key=lambda found: found[1])
    return np.unique(stratum, return_inverse=True)[1].astype(np.int64)


def few_groups(
    labels: ArrayLike, groups: ArrayLike | None, classes: Sequence[str]
) -> dict[str, int]:
    """Return the classes that occur in fewer than MIN_GROUPS groups, and in how many.

    A few patients do not show how patients differ: intervals of these classes and of macro averages
    are not reliable.
    """
    holders = _classes_of_groups(labels, groups, len(classes))[2].sum(0)
    counts = zip(classes, holders.tolist(), strict=True)
    return {name: number for name, number in counts if 0 < number < MIN_GROUPS}


def _classes_of_groups(
    labels: ArrayLike, groups: ArrayLike | None, num_classes: int
) -> tuple[Integers, Integers, Flags]:
    """Return labels (n,), the number of each image's group (n,), the classes of groups (G, C)."""
    y = np.asarray(labels, np.int64)
    names = np.arange(len(y)) if groups is None else np.asarray(groups)
    if y.ndim != 1 or names.shape != y.shape:
        raise ValueError(f"labels and groups must be (n,), not {y.shape} and {names.shape}")
    _, group = np.unique(names, return_inverse=True)
    holds = np.zeros((int(group.max()) + 1, num_classes), np.bool_)
    holds[group, y] = True
    return y, group.astype(np.int64), holds
