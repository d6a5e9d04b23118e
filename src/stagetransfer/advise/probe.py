"""How well a linear classifier, and the nearest neighbours, do on features: cross-validated.

Patients are never divided. Each image is predicted by a classifier that has seen no image of its
patient, and the predictions of several random divisions into folds take the place of seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from stagetransfer.data.folds import assign_folds
from stagetransfer.data.subset import subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.seeding import derive
from stagetransfer.statistics.metrics import Array, Integers
from stagetransfer.statistics.transferability import principal_components

FOLDS = 5
SEEDS = 3
DIMENSIONS = 64
NEIGHBOURS = 5
STRENGTH = 1.0  # inverse of the penalty, for features of unit mean variance


@dataclass(frozen=True)
class Divisions:
    """Training images: labels (N,), and their folds in each of S random divisions (S, N)."""

    labels: Integers
    classes: tuple[str, ...]
    folds: NDArray[np.int64]


def divide(labels: Integers, groups: Sequence[str] | None, classes: tuple[str, ...]) -> Divisions:
    """Divide the training images into FOLDS folds, or fewer if a class has fewer patients.

    UserError if a class has images of one patient only.
    """
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    fewest = min(len(np.unique(units[labels == label])) for label in np.unique(labels))
    if fewest < 2:
        raise UserError(
            "advise: a class has training images of one patient only, so no probe can be tested "
            "on another. Add patients, or leave the class out (options.classes)"
        )
    for count in range(min(FOLDS, fewest), 1, -1):
        try:
            folds = [
                assign_folds(labels, groups, count, derive(seed, "advise"), classes=classes)
                for seed in range(SEEDS)
            ]
        except UserError:  # patients with several classes may allow no division into so many
            if count == 2:
                raise
        else:
            break
    return Divisions(labels, classes, np.stack(folds))


def reduced(features: NDArray[np.float32]) -> Array:
    """Return features (N, D) as at most DIMENSIONS principal components of unit mean variance.

    Each feature is first scaled to unit variance. No label is used, so all images may be.
    """
    f = features.astype(np.float64)
    f = (f - f.mean(0)) / np.where(f.std(0) > 1e-8, f.std(0), 1)
    if f.shape[1] > DIMENSIONS:
        f = principal_components(f, DIMENSIONS)
    return np.asarray(f / max(float(np.sqrt(f.var(0).mean())), 1e-12))


def probe(
    features: Sequence[Array], divisions: Divisions, ratio: float, kind: str = "linear"
) -> Array:
    """Return the probabilities (S, N, C) of images that the classifier has not seen.

    Args:
        features: of one or more networks, (N, D) each, see `reduced`; the divisions take them in
            turn.
        ratio: the share of the images of each class that it is trained on, in (0, 1]; at least one.
        kind: "linear" (multinomial logistic regression with an L2 penalty) or "neighbours".
    """
    labels, classes = divisions.labels, divisions.classes
    result = np.zeros((*divisions.folds.shape, len(classes)))
    for seed, folds in enumerate(divisions.folds):
        f = features[seed % len(features)]
        for fold in np.unique(folds):
            (train,) = np.nonzero(folds != fold)
            if ratio < 1:
                chosen = subset_by_image(labels[train], ratio, seed, classes, keep_classes=True)
                train = train[chosen]
            (tested,) = np.nonzero(folds == fold)
            model = _classifier(kind, len(train)).fit(f[train], labels[train])
            result[seed][np.ix_(tested, model.classes_)] = model.predict_proba(f[tested])
    return result


def _classifier(kind: str, images: int) -> LogisticRegression | KNeighborsClassifier:
    if kind == "neighbours":
        return KNeighborsClassifier(min(NEIGHBOURS, images), weights="distance")
    return LogisticRegression(C=STRENGTH, max_iter=200, tol=1e-3)
