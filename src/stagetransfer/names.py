"""Names that settings and finished runs use, for code that must not import torch."""

import re
from collections.abc import Sequence

VARIANTS = ("paper", "bvlc", "caffenet", "torchvision")
"""The published forms of AlexNet; see `stagetransfer.models.alexnet`."""

SCHEMES = ("gaussian", "xavier", "kaiming", "lsuv")
"""Initialisation schemes of AlexNet; see `stagetransfer.models.initialisation`."""

PUBLISHED = ("torchvision", "timm", "efficientnet-lite0")
"""Published weights that need no file of the user's: of hubs, and of an installed package."""

CONDITIONS = {
    ("target",): "scratch",
    ("natural", "target"): "natural",
    ("texture", "target"): "texture",
    ("natural", "texture", "target"): "two_stage",
}
"""Names of the chains of Suzuki et al. 2018, in the paper's order."""


def condition_of(chain: Sequence[str]) -> str:
    """Return the name of a chain that was given none: the paper's, or its stages with hyphens."""
    return CONDITIONS.get(tuple(chain), "-".join(chain))


SPLITS = ("train", "validation", "test")
"""The parts of a data set."""

METRICS = ("cross_entropy", "accuracy", "precision", "recall", "f1", "auroc")
"""The figures that are computed on validation and test images."""


def choosing_metric(monitor: str) -> str:
    """Return the validation metric that chooses between trainings, for a value of recipe.monitor.

    "last" chooses no epoch within a training, and cross_entropy between trainings.
    """
    return "cross_entropy" if monitor == "last" else monitor


def is_folder_name(name: object) -> bool:
    """Return whether a condition or stage may name a folder: no path, no space, no control."""
    if not isinstance(name, str) or name in (".", "..") or len(name) > 100:
        return False
    return re.fullmatch(r"[A-Za-z0-9_.+-]+", name) is not None
