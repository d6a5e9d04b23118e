"""McNemar's exact test: do two models make their errors on different images?

McNemar 1947, Psychometrika 12. The test takes images as independent, so with several images per
patient its p-value is too small. It complements the bootstrap, which resamples patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class McNemar:
    """The numbers of images that only a, or only b, classifies correctly; the exact p-value."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar(labels: ArrayLike, prediction_a: ArrayLike, prediction_b: ArrayLike) -> McNemar:
    """Compare the predictions of two runs for the same images, all (n,), in the same order.

    If exactly one of the two is correct, the hypothesis makes either equally likely: the two-sided
    p-value is binomial. It is 1 if there is no such image.
    """
    y, a, b = (np.asarray(array) for array in (labels, prediction_a, prediction_b))
    if y.ndim != 1 or not y.shape == a.shape == b.shape:
        raise ValueError(f"all must be (n,), not {y.shape}, {a.shape} and {b.shape}")
    only_a, only_b = int(((a == y) & (b != y)).sum()), int(((a != y) & (b == y)).sum())
    either = only_a + only_b
    return McNemar(only_a, only_b, float(stats.binomtest(only_a, either).pvalue) if either else 1.0)
