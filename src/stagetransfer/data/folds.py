"""Folds of a labelled set for cross-validation: stratified by class, with whole groups."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from stagetransfer.data.holdout import Groups, Labels
from stagetransfer.errors import UserError

_ORDERS = 16  # random orders of the groups, of which the most even folds are taken


def assign_folds(
    labels: Labels, groups: Groups | None, count: int, seed: int, *, classes: Sequence[str]
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
    best: NDArray[np.int64] | None = None
    least = np.inf
    for _ in range(_ORDERS):
        order = int(random.integers(2**31))
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=order)
        folds = np.empty(len(labels), dtype=np.int64)
        held = np.zeros((count, len(classes)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # classes with few images: checked before
            for number, (_, rows) in enumerate(splitter.split(labels, labels, units)):
                folds[rows] = number
                held[number] = np.bincount(labels[rows], minlength=len(classes))
        unevenness = np.sum((held / held.sum(0) - 1 / count) ** 2)
        if held.all() and unevenness < least:
            best, least = folds, unevenness
    if best is None:
        raise UserError(
            f"no {count} folds with every class in each were found: too few {unit} of the rare "
            "classes are without other classes; use fewer --folds"
        )
    return best
