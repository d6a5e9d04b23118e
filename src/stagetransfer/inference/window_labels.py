"""What a window or a pixel may be said to be, beside the run's own classes."""

from __future__ import annotations

from collections.abc import Sequence

NOTICE = "research use, not a diagnosis"
"""Stands on every picture and in every file that may be passed on."""

UNCERTAIN = "uncertain"
UNLIKE = "unlike the training data"
OUTSIDE = -1
"""In maps: no lung, or no window."""


def codes(classes: Sequence[str]) -> tuple[str, ...]:
    """The meaning of the codes 0, 1, ... in maps and verdicts: the classes, then the two marks."""
    return (*classes, UNCERTAIN, UNLIKE)
