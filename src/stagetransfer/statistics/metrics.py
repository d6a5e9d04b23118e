"""The figures of one run on its test set, as `metrics.json` holds them."""

from __future__ import annotations

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

EPSILON = float(np.finfo(np.float64).eps)  # 2.2e-16, at which scikit-learn's log_loss clips too


def classification_metrics(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]
) -> dict[str, Any]:
    """Accuracy, macro averages, a table by class and the confusion matrix, ready for JSON.

    labels: (n,) integers, positions in `classes`. probabilities: (n, C), each in [0, 1]; the
    prediction is the most probable class, the first of equals.

    `accuracy`, `precision`, `recall`, `f1`, `auroc` are fractions in [0, 1], the last four the
    plain mean over all of `classes`. A precision, recall or F1 that is 0/0 (a class that is never
    predicted, or has no image) counts as 0, scikit-learn's zero_division=0. `cross_entropy` is
    the mean of -ln p(label) in nats, p clipped from below at EPSILON. `auroc` is one-versus-rest,
    and None where a class has no image or no other class has one. `confusion` has a row a label
    and a column a prediction. Raises ValueError if shapes or labels do not fit.
    """
    y, p = checked(labels, probabilities, len(classes))
    prediction, numbers = p.argmax(1), np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        y, prediction, labels=numbers, zero_division=0
    )
    auroc = _auroc(y, p)
    return {
        "accuracy": float(accuracy_score(y, prediction)),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "cross_entropy": float(losses(y, p).mean()),
        "auroc": None if np.isnan(auroc) else auroc,
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion_matrix(y, prediction, labels=numbers).tolist(),
    }


def losses(labels: NDArray[np.int64], probabilities: Array) -> Array:
    """-ln p(label) of each image, (..., n) for probabilities (..., n, C)."""
    chosen = probabilities[..., np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(chosen, EPSILON, None)))


def checked(
    labels: ArrayLike, probabilities: ArrayLike, num_classes: int
) -> tuple[NDArray[np.int64], Array]:
    """Labels (n,) and probabilities (..., n, C) as int64 and float64; ValueError if unfit."""
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


def _auroc(labels: NDArray[np.int64], probabilities: Array) -> float:
    scores = []
    for i in range(probabilities.shape[1]):
        positive = labels == i
        if positive.all() or not positive.any():
            return float("nan")
        scores.append(roc_auc_score(positive, probabilities[:, i]))
    return float(np.mean(scores))
