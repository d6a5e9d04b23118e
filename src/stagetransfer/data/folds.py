"""Folds of a labelled set: by class, never through a group, from a seed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from stagetransfer.data.holdout import Groups
from stagetransfer.errors import UserError

_TRIES = 16  # orders of the groups among which the evenest folds are chosen
_ABSENT = 1e6  # outweighs any unevenness: a class is absent from a fold


def assign_folds(
    labels: NDArray[np.int64],
    groups: Groups | None,
    count: int,
    seed: int,
    *,
    classes: Sequence[str],
) -> NDArray[np.int64]:
    """The fold of each image: every class in each fold, as near to a k-th of it as groups allow.

    By scikit-learn's StratifiedGroupKFold from several orders; the best has every class in each
    fold, then the least sum over folds and classes of (share of the class - 1 / k)^2. Without
    groups each image is its own.

    Args:
        labels: (N,) in [0, C).
        groups: (N,) names that no fold may divide, or None.
        count: k, 2 or more.
        classes: C names, for messages.

    Returns:
        (N,) in [0, k).

    Raises:
        UserError: a class has fewer groups (images) than folds, or no folds with all classes in
            each were found.
    """
    unit = "images" if groups is None else "groups (patients)"
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    if count < 2:
        raise UserError(f"--folds {count}: needs 2 or more")
    for label, name in enumerate(classes):
        if (there := len(np.unique(units[labels == label]))) < count:
            raise UserError(
                f"class {name} has {there} {unit}, too few for {count} folds with the class in "
                f"each; use --folds {there}, or --test for one test set"
                if there > 1
                else f"class {name} has {there} {unit}: too few for folds; add some"
            )
    random = np.random.default_rng(seed)
    tried = [_divided(labels, units, count, int(random.integers(2**31))) for _ in range(_TRIES)]
    scores = [_unevenness(labels, fold, count, len(classes)) for fold in tried]
    best = int(np.argmin(scores))
    if scores[best] >= _ABSENT:
        raise UserError(
            f"no {count} folds found with every class in each: too few {unit} of the rare classes "
            "stand apart from the others; use fewer --folds"
        )
    return tried[best]


def _divided(
    labels: NDArray[np.int64], units: Groups | NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    fold = np.empty(len(labels), dtype=np.int64)
    cutter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with few images: checked above
        for number, (_, held) in enumerate(cutter.split(labels, labels, units)):
            fold[held] = number
    return fold


def _unevenness(
    labels: NDArray[np.int64], fold: NDArray[np.int64], count: int, classes: int
) -> float:
    held = np.zeros((count, classes))
    np.add.at(held, (fold, labels), 1)
    return float(_ABSENT * np.sum(held == 0) + np.sum((held / held.sum(0) - 1 / count) ** 2))
