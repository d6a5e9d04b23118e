"""Names that settings and finished runs use, for code that must not import torch."""

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
"""AlexNet's layers that have parameters (a weight and a bias each), from the input on."""

VARIANTS = ("paper", "bvlc", "caffenet", "torchvision")
"""The published forms of AlexNet; see `stagetransfer.models.alexnet`."""

SCHEMES = ("gaussian", "xavier", "kaiming", "lsuv")
"""Initialisation schemes; see `stagetransfer.models.initialisation`."""

CONDITIONS = {
    ("target",): "scratch",
    ("natural", "target"): "natural",
    ("texture", "target"): "texture",
    ("natural", "texture", "target"): "two_stage",
}
"""Names of the chains of Suzuki et al. 2018, in the paper's order."""

METRICS = ("cross_entropy", "accuracy", "precision", "recall", "f1", "auroc")
"""The figures that are computed on validation and test images."""


def choosing_metric(monitor: str) -> str:
    """Return the validation metric that chooses between trainings, for a value of recipe.monitor.

    "last" chooses no epoch within a training, and cross_entropy between trainings.
    """
    return "cross_entropy" if monitor == "last" else monitor
