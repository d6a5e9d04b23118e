"""The metrics of one run on its test set, as `metrics.json` holds them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

EPSILON = float(np.finfo(np.float64).eps)  # 2.2e-16, at which scikit-learn's log_loss clips too


def classification_metrics(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]
) -> dict[str, Any]:
    """Return accuracy, macro averages, a table by class and the confusion matrix, as for JSON.

    Labels (n,) are positions in `classes`; of probabilities (n, C), the first of equals is
    predicted. `precision`, `recall`, `f1` and `auroc` are averaged over the classes that have
    images; `classes_averaged` is their number. The precision of a class that is never predicted
    counts as 0. `cross_entropy` is the mean of -ln p(label) in nats, with p of at least EPSILON.
    `auroc` is one-versus-rest; it is None if one class has all images. In `per_class`, the values
    of a class without images are None. `confusion` has one row per label and one column per
    prediction.
    """
    y, p = checked_arrays(labels, probabilities, len(classes))
    prediction, numbers = p.argmax(1), np.arange(len(classes))
    by_class = precision_recall_fscore_support(y, prediction, labels=numbers, zero_division=0)
    *scores, support = by_class
    scores = dict(zip(("precision", "recall", "f1"), scores, strict=True))
    occurs = np.flatnonzero(support)
    areas = [roc_auc_score(y == i, p[:, i]) for i in occurs] if len(occurs) > 1 else None
    return {
        "accuracy": float(accuracy_score(y, prediction)),
        **{name: float(values[occurs].mean()) for name, values in scores.items()},
        "cross_entropy": float(image_losses(y, p).mean()),
        "auroc": None if areas is None else float(np.mean(areas)),
        "classes_averaged": len(occurs),
        "per_class": {
            name: {
                metric: float(values[i]) if support[i] else None
                for metric, values in scores.items()
            }
            | {"support": int(support[i])}
            for i, name in enumerate(classes)
        },
        "confusion": confusion_matrix(y, prediction, labels=numbers).tolist(),
    }


def ratio(part: Array, whole: Array, empty: float) -> Array:
    """Return part / whole, and `empty` where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, empty), where=whole > 0)


def image_losses(labels: Integers, probabilities: Array) -> Array:
    """Return -ln p(label) of each image, (..., n) for probabilities (..., n, C)."""
    chosen = probabilities[..., np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(chosen, EPSILON, None)))


def checked_arrays(
    labels: ArrayLike, probabilities: ArrayLike, num_classes: int
) -> tuple[Integers, Array]:
    """Return labels (n,) as int64 and probabilities (..., n, C) as float64; ValueError if unfit."""
    y, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    if y.ndim != 1 or not len(y) or y.dtype.kind not in "iu":
        raise ValueError(f"labels must be (n,) integers, n > 0, not {y.dtype} {y.shape}")
    if p.shape[-2:] != (len(y), num_classes):
        raise ValueError(f"probabilities must be (..., {len(y)}, {num_classes}), not {p.shape}")
    if y.min() < 0 or y.max() >= num_classes:
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, not {y.min()}..{y.max()}")
    if not (p.min() >= 0 and p.max() <= 1 + 1e-6):
        raise ValueError("probabilities must be numbers from 0 to 1")
    return y.astype(np.int64), p
