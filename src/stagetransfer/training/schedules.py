"""Schedules that torch lacks for groups with rates of their own."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def one_cycle(
    optimizer: Optimizer, *, total_steps: int, rise: float = 0.25, start: float = 0.1
) -> LambdaLR:
    """Each group's rate rises in a line from `start` times its own, then falls as a half cosine.

    torch's OneCycleLR takes one peak for all groups, or a list by hand; here each group's own rate
    (the layer policy's) is its peak.

    Args:
        total_steps: steps of the whole stage.
        rise: share of the steps before the peak, in (0, 1).
        start: rate at the first step over the peak, in (0, 1].
    """
    peak = max(1, round(rise * total_steps))

    def factor(step: int) -> float:
        if step < peak:
            return start + (1 - start) * step / peak
        return 0.5 * (1 + math.cos(math.pi * (step - peak) / max(1, total_steps - peak)))

    return LambdaLR(optimizer, factor)
