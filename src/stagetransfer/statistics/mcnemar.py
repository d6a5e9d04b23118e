"""McNemar's exact test: does one model err on other images than another? (1947, Psychometrika 12)

It takes images as independent, so with several images a patient its p-value is too small; it
is the second opinion beside the bootstrap's, which is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class McNemar:
    """only_a, only_b: images that a alone, b alone has right. p_value: exact, two-sided."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar(labels: ArrayLike, prediction_a: ArrayLike, prediction_b: ArrayLike) -> McNemar:
    """Compares two runs' predictions of the same images, all (n,), in the same order.

    Given that the two differ in being right, either is as likely to be under the hypothesis: the
    p-value is binomial, and 1 if they never differ. Raises ValueError if the lengths differ.
    """
    y, a, b = (np.asarray(array) for array in (labels, prediction_a, prediction_b))
    if y.ndim != 1 or not y.shape == a.shape == b.shape:
        raise ValueError(f"all must be (n,), not {y.shape}, {a.shape} and {b.shape}")
    only_a = int(((a == y) & (b != y)).sum())
    only_b = int(((a != y) & (b == y)).sum())
    if only_a + only_b == 0:
        return McNemar(0, 0, 1.0)
    return McNemar(only_a, only_b, float(stats.binomtest(only_a, only_a + only_b).pvalue))
