"""The comparison of two conditions in one sentence that claims no more than its interval does."""

from typing import NamedTuple

import numpy as np

from stagetransfer.statistics.intervals import Interval


class Unit(NamedTuple):
    """A unit for numbers in text: its name, the factor into it, digits after the decimal point."""

    name: str
    factor: float
    digits: int


POINTS = Unit("points", 100, 1)  # percentage points, for metrics that are fractions
NATS = Unit("nats", 1, 3)
PER_RATIO = Unit("per unit of r", 1, 3)


def sentence(
    a: str,
    b: str,
    result: Interval,
    *,
    unit: Unit = POINTS,
    p_value: float | None = None,
    few: str = "",
    refusal: str = "",
) -> str:
    """Return a sentence about the difference a - b of two conditions, such as

        two_stage - natural: +0.4 points [-0.9, 1.7], no evidence of a difference

    If several pairs are compared, `p_value` has Holm's correction; None: that of `result` counts.
    `few` says of what there is too little for the interval to be reliable, such as "groups in HCM
    (6)"; the sentence then draws no conclusion. `refusal` is why the two are not compared, if so.
    """
    if refusal:
        return f"{a} - {b}: not compared: {refusal}"
    numbers, d = (result.estimate, result.low, result.high), unit.digits
    if not np.isfinite(result.estimate):
        return f"{a} - {b}: not defined on this test set"
    if not np.isfinite(numbers).all():
        shown = f"{unit.factor * result.estimate + 0.0:+.{d}f} {unit.name}"
        return f"{a} - {b}: {shown}; its interval is not estimable: {result.why}"
    p = result.p_value if p_value is None else p_value
    estimate, low, high = (round(unit.factor * x, d) + 0.0 for x in numbers)  # 0.0 for -0.0
    text = f"{a} - {b}: {estimate:+.{d}f} {unit.name} [{low:.{d}f}, {high:.{d}f}]"
    if few:
        text += f"; too few {few} to say whether this is a difference"
    elif unit == POINTS and result.low <= -1 and result.high >= 1:
        text = f"{a} - {b}: {estimate:+.{d}f} {unit.name}; the data do not suffice for an interval"
    elif p <= 0.05:
        text += f", evidence of a difference (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})"
    else:
        text += ", no evidence of a difference"
        if result.p_value <= 0.05:
            text += f" after Holm's correction (p = {p:.2g})"
    if not result.seeds_resampled:
        text += "; one seed only, so the variance over seeds is unknown"
    return text
