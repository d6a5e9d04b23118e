"""Finished runs on corrupted test images. Nothing is trained, and nothing below imports this.

`corrupt` makes one image worse, `tested` lets the networks of a run read the corrupted test set,
and `Robustness` compares the conditions.
"""

from stagetransfer.stress.corrupted_tests import scale_of, tested
from stagetransfer.stress.corruptions import CORRUPTIONS, SEVERITIES, Corruption, Scale, corrupt
from stagetransfer.stress.robustness import Robustness

__all__ = [
    "CORRUPTIONS", "SEVERITIES", "Corruption", "Robustness", "Scale", "corrupt", "scale_of",
    "tested",
]  # fmt: skip
