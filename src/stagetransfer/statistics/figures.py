"""The figures of one test: what metrics.json holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

TINY = (
    1e-15  # a probability of 0 counts as this much, so that one image can't make the mean infinite
)


def figures(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, Any]:
    """Accuracy, macro precision, recall and F1, cross-entropy and macro AUROC, and each class's.

    A class that is never predicted has precision 0; one without test images has recall 0 and is
    left out of no average. AUROC is the mean over classes of one versus rest, NaN where a class
    has no or only positives.

    Args:
        labels: (N,) in [0, C).
        probabilities: (N, C), rows sum to 1; the largest is the prediction.
        classes: C names.

    Returns:
        accuracy, precision, recall, f1, cross_entropy (nats an image), auroc: floats;
        per_class: for each name precision, recall, f1 and support;
        confusion: C x C counts, a row a true class, a column a prediction.
    """
    number = range(len(classes))
    predictions = probabilities.argmax(1)
    each = precision_recall_fscore_support(labels, predictions, labels=number, zero_division=0)
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], TINY, 1)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "precision": float(np.mean(each[0])),
        "recall": float(np.mean(each[1])),
        "f1": float(np.mean(each[2])),
        "cross_entropy": float(-np.log(chosen).mean()),
        "auroc": float(np.mean([_auroc(labels == k, probabilities[:, k]) for k in number])),
        "per_class": {
            name: {
                "precision": float(each[0][k]),
                "recall": float(each[1][k]),
                "f1": float(each[2][k]),
                "support": int(each[3][k]),
            }
            for k, name in enumerate(classes)
        },
        "confusion": confusion_matrix(labels, predictions, labels=number).tolist(),
    }


def _auroc(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, score))
