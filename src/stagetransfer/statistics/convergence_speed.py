"""The number of mini-batches a training takes (Tajbakhsh et al. 2016, IEEE TMI 35(5), Fig. 10)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Convergence:
    """The final value, the target (a share of it), and the mini-batches until it was reached."""

    final: float
    target: float
    batches: int


def convergence(batches: ArrayLike, values: ArrayLike, share: float = 0.95) -> Convergence:
    """Find when a validation metric that grows, such as AUC, first reached its target.

    The result is one of the ascending `batches` (n,), so it is only as precise as validation was
    frequent. AUC starts near 1/2 and not at 0: a low final value has its target reached at once,
    so read both together. The target is a `share` in (0, 1] of the final value.
    """
    at, y = np.asarray(batches), np.asarray(values, np.float64)
    if at.ndim != 1 or at.shape != y.shape or not len(y):
        raise ValueError(f"batches and values must be (n,), n > 0, not {at.shape} and {y.shape}")
    if (np.diff(at) <= 0).any() or not np.isfinite(y).all():
        raise ValueError("batches must ascend and values be finite")
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], not {share}")
    final = float(y[-1])
    return Convergence(final, share * final, int(at[np.argmax(y >= share * final)]))
