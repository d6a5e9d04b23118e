"""A comparison in one sentence, which claims no more than its interval does."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from stagetransfer.statistics.bootstrap import Interval


class Unit(NamedTuple):
    """How a number is said: its unit's name, the factor into that unit, digits after the point."""

    name: str
    factor: float
    digits: int


POINTS = Unit("points", 100, 1)  # percentage points, of figures that are fractions
NATS = Unit("nats", 1, 3)
PER_RATIO = Unit("per unit of r", 1, 3)


def sentence(
    a: str,
    b: str,
    result: Interval,
    *,
    unit: Unit = POINTS,
    p_value: float | None = None,
    few: Collection[str] = (),
) -> str:
    """The difference a - b of two conditions in words.

        two_stage - natural: +0.4 points [-0.9, 1.7], no evidence of a difference

    p_value: that of Holm's correction where several pairs are compared; else the result's own.
    few: the classes with too few groups (`few_groups`).
    """
    if not np.isfinite([result.estimate, result.low, result.high]).all():
        return f"{a} - {b}: not defined on this test set"
    p = result.p_value if p_value is None else p_value
    estimate, low, high = (
        # + 0.0 makes of -0.0 a plain zero
        round(unit.factor * number, unit.digits) + 0.0
        for number in (result.estimate, result.low, result.high)
    )
    d = unit.digits
    text = f"{a} - {b}: {estimate:+.{d}f} {unit.name} [{low:.{d}f}, {high:.{d}f}], "
    if p <= 0.05:
        text += "evidence of a difference "
        text += "(p < 0.001)" if p < 0.001 else f"(p = {p:.3f})"
    else:
        text += "no evidence of a difference"
        if result.p_value <= 0.05:
            text += f" after Holm's correction (p = {p:.2g})"
    if not result.seeds_resampled:
        text += "; one seed only, how seeds differ is unknown"
    if few:
        text += f"; not to be trusted: fewer than ten groups in {', '.join(few)}"
    return text
