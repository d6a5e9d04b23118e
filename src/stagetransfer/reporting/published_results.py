"""The figures that Suzuki, Sakanashi, Kido and Shouno (2018) print; arXiv 1810.06282."""

from __future__ import annotations

CONDITIONS = ("scratch", "natural", "texture", "two_stage")

# Table 2, at r = 1, 927 test images.
TABLE_2: dict[str, dict[str, float]] = {
    figure: dict(zip(CONDITIONS, values, strict=True))
    for figure, values in {
        "accuracy": (0.9277, 0.9558, 0.9201, 0.9601),
        "precision": (0.9583, 0.9484, 0.9412, 0.9739),
        "recall": (0.9590, 0.9471, 0.9417, 0.9719),
        "f1": (0.9583, 0.9470, 0.9411, 0.9724),
    }.items()
}

# Table 3, the slope A of y = A r + b.
TABLE_3: dict[str, dict[str, float]] = {
    "accuracy": dict(zip(CONDITIONS, (1.3560, 0.9920, 0.9475, 0.7479), strict=True)),
    "cross_entropy": dict(zip(CONDITIONS, (-0.5054, -0.4938, -0.3221, -0.2230), strict=True)),
}
