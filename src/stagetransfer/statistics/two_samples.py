"""How far two sets of features lie apart: Frechet distance, and a classifier two-sample test."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from stagetransfer.statistics.metrics import Array


def frechet_distance(a: Array, b: Array) -> float:
    """Return the Frechet distance of two normal distributions fitted to (N, D) and (M, D) features.

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), in squared units of the features (Dowson
    and Landau 1982; Heusel et al. 2017). With few samples it is too large even for equal
    distributions, so compare it with that of two halves of one set.
    """
    # tr (S_a S_b)^(1/2) is the sum of the singular values of A^T B for S_a = A A^T, S_b = B B^T.
    roots = [(x - x.mean(0)).T / np.sqrt(len(x) - 1) for x in (a, b)]
    common = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    apart = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    spread = sum(float((root**2).sum()) for root in roots)
    return max(apart + spread - 2 * float(common), 0.0)


def two_sample_accuracy(
    a: Array, b: Array, groups: tuple[Sequence[str], Sequence[str]], *, folds: int = 5
) -> float:
    """Return how well a linear classifier tells two sets of features apart, cross-validated.

    Args:
        a, b: (N, D) and (M, D).
        groups: the patients of both; none is in training and test at once.

    Returns:
        Balanced accuracy: 0.5 if the sets cannot be distinguished, 1 if always (classifier
        two-sample test, Lopez-Paz and Oquab 2017); NaN with fewer than two groups in a set.
    """
    features, labels = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    names = [f"{side} {name}" for side, of in enumerate(groups) for name in of]
    folds = min(folds, *(len(set(of)) for of in groups))
    if folds < 2:
        return float("nan")
    features = (features - features.mean(0)) / np.where(features.std(0) > 0, features.std(0), 1)
    model = LogisticRegression(class_weight="balanced", max_iter=200, tol=1e-3)
    division = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    found = cross_val_predict(model, features, labels, groups=names, cv=division)
    return float(balanced_accuracy_score(labels, found))
