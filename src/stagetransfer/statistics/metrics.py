"""The metrics of one run on its test set, as `metrics.json` holds them."""

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
    """Return accuracy, macro averages, a table by class and the confusion matrix, as for JSON.

    Args:
        labels: (n,), positions in `classes`.
        probabilities: (n, C) in [0, 1]; the most probable class is the prediction, the first of
            equals.

    Returns:
        `accuracy`, `precision`, `recall`, `f1` and `auroc` in [0, 1], the last four averaged over
        all of `classes`. A precision, recall or F1 of 0/0 (a class that is never predicted or has
        no image) counts as 0, like scikit-learn's zero_division=0. `cross_entropy` is the mean of
        -ln p(label) in nats, with p of at least EPSILON. `auroc` is one-versus-rest; it is None if
        a class has no image or all images. `confusion` has one row per label and one column per
        prediction.

    Raises:
        ValueError: the shapes or labels do not fit.
    """
    y, p = checked_arrays(labels, probabilities, len(classes))
    prediction, numbers = p.argmax(1), np.arange(len(classes))
    by_class = precision_recall_fscore_support(y, prediction, labels=numbers, zero_division=0)
    support = by_class[3]
    complete = bool(((support > 0) & (support < len(y))).all())
    scores = dict(zip(("precision", "recall", "f1"), by_class[:3], strict=True))
    return {
        "accuracy": float(accuracy_score(y, prediction)),
        **{name: float(values.mean()) for name, values in scores.items()},
        "cross_entropy": float(image_losses(y, p).mean()),
        "auroc": float(np.mean([roc_auc_score(y == i, p[:, i]) for i in numbers]))
        if complete
        else None,
        "per_class": {
            name: {metric: float(values[i]) for metric, values in scores.items()}
            | {"support": int(support[i])}
            for i, name in enumerate(classes)
        },
        "confusion": confusion_matrix(y, prediction, labels=numbers).tolist(),
    }


def image_losses(labels: NDArray[np.int64], probabilities: Array) -> Array:
    """Return -ln p(label) of each image, (..., n) for probabilities (..., n, C)."""
    chosen = probabilities[..., np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(chosen, EPSILON, None)))


def checked_arrays(
    labels: ArrayLike, probabilities: ArrayLike, num_classes: int
) -> tuple[NDArray[np.int64], Array]:
    """Return labels (n,) as int64 and probabilities (..., n, C) as float64.

    Raises:
        ValueError: the shapes or values do not fit.
    """
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
