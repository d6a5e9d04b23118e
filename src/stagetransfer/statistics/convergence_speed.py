"""How many mini-batches a training takes (Tajbakhsh et al. 2016, IEEE TMI 35(5), Fig. 10)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SHARE = 0.95


@dataclass(frozen=True)
class Convergence:
    """final: the last value. target: SHARE of it. batches: when a value first was no less."""

    final: float
    target: float
    batches: int


def convergence(batches: ArrayLike, values: ArrayLike, share: float = SHARE) -> Convergence:
    """Reads a validation figure that grows, such as AUC, after so many mini-batches.

    batches: (n,) integers, ascending. values: (n,) in [0, 1]. The answer is one of `batches`: it
    is as fine as validation was frequent. AUC starts near 1/2, not 0, so where the final value is
    little more, its share is reached at once: read `batches` beside `final`. Raises ValueError if
    the arrays are empty, of other lengths, not ascending or not finite, or share is not in (0, 1].
    """
    at, y = np.asarray(batches), np.asarray(values, np.float64)
    if at.ndim != 1 or at.shape != y.shape or not len(y):
        raise ValueError(f"batches and values must be (n,), n > 0, not {at.shape} and {y.shape}")
    if (np.diff(at) <= 0).any() or not np.isfinite(y).all():
        raise ValueError("batches must ascend and values be finite")
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], not {share}")
    target = share * float(y[-1])
    return Convergence(float(y[-1]), target, int(at[np.argmax(y >= target)]))
