"""Folds of a labelled set for cross-validation: stratified by class, with whole groups."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from stagetransfer.data.holdout import Groups
from stagetransfer.errors import UserError

_ORDERS = 16  # random orders of the groups, of which the most even folds are taken
_ABSENT = 1e6  # outweighs any unevenness: a class is absent from a fold


def assign_folds(
    labels: NDArray[np.int64],
    groups: Groups | None,
    count: int,
    seed: int,
    *,
    classes: Sequence[str],
) -> NDArray[np.int64]:
    """Return the fold of each image; the classes are spread as evenly as the groups allow.

    scikit-learn's StratifiedGroupKFold divides the images in several random orders. The best
    result has every class in each fold, and then the least sum over folds and classes of
    (share of the class - 1 / k)^2.

    Labels (N,) are in [0, C), folds (N,) in [0, k), with k = `count`. Groups (N,) stay whole;
    without any, each image is its own group. A class with fewer groups than folds, or absent from
    some fold, is a UserError.
    """
    unit = "images" if groups is None else "groups (patients)"
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    if count < 2:
        raise UserError(f"--folds {count}: needs 2 or more")
    for label, name in enumerate(classes):
        if (present := len(np.unique(units[labels == label]))) < count:
            raise UserError(
                f"class {name} has {present} {unit}, too few for {count} folds with the class in "
                f"each; use --folds {present}, or --test for one test set"
                if present > 1
                else f"class {name} has {present} {unit}: too few for folds; add some"
            )
    random = np.random.default_rng(seed)
    divisions = [_divide(labels, units, count, int(random.integers(2**31))) for _ in range(_ORDERS)]
    scores = [_unevenness(labels, folds, count, len(classes)) for folds in divisions]
    best = int(np.argmin(scores))
    if scores[best] >= _ABSENT:
        raise UserError(
            f"no {count} folds with every class in each were found: too few {unit} of the rare "
            "classes are without other classes; use fewer --folds"
        )
    return divisions[best]


def _divide(
    labels: NDArray[np.int64], units: Groups | NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    folds = np.empty(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with few images: checked before
        for number, (_, held) in enumerate(splitter.split(labels, labels, units)):
            folds[held] = number
    return folds


def _unevenness(
    labels: NDArray[np.int64], folds: NDArray[np.int64], count: int, classes: int
) -> float:
    held = np.zeros((count, classes))
    np.add.at(held, (folds, labels), 1)
    return float(_ABSENT * np.sum(held == 0) + np.sum((held / held.sum(0) - 1 / count) ** 2))
