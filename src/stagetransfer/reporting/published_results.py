"""Results printed in Suzuki, Sakanashi, Kido and Shouno 2018 (arXiv 1810.06282)."""

from stagetransfer.names import CONDITIONS


def _by_condition(*values: float) -> dict[str, float]:
    return dict(zip(CONDITIONS.values(), values, strict=True))


TABLE_2 = {
    "accuracy": _by_condition(0.9277, 0.9558, 0.9201, 0.9601),
    "precision": _by_condition(0.9583, 0.9484, 0.9412, 0.9739),
    "recall": _by_condition(0.9590, 0.9471, 0.9417, 0.9719),
    "f1": _by_condition(0.9583, 0.9470, 0.9411, 0.9724),
}
"""Table 2: test metrics at r = 1, on 927 images."""

TABLE_3 = {
    "accuracy": _by_condition(1.3560, 0.9920, 0.9475, 0.7479),
    "cross_entropy": _by_condition(-0.5054, -0.4938, -0.3221, -0.2230),
}
"""Table 3: the slope A of y = A r + b."""
