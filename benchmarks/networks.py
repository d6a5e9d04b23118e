"""The networks that benchmarks measure, by name, ours and the libraries' own.

A name is a variant of AlexNet, a classifier of torchvision, or a network of timm as in
"timm:tf_efficientnet_lite0".
"""

from __future__ import annotations

import timm
from torch import nn
from torchvision import models

from stagetransfer.config.schema import Model
from stagetransfer.models import AlexNet

ALEXNETS = {"paper": 227, "torchvision": 224}  # input sizes


def settings(name: str, size: int | None = None) -> Model:
    """Return the configuration of the framework's network."""
    if name in ALEXNETS:
        return Model(variant=name, input_size=size or ALEXNETS[name])
    library, _, own = name.rpartition(":")
    return Model(
        library=library or "torchvision", name=own, input_size=size or 224, initialisation="own"
    )


def reference(name: str, classes: int) -> nn.Module:
    """Return a network of the same layers from PyTorch's own modules, with activations in place."""
    if name == "torchvision":
        network: nn.Module = models.alexnet(num_classes=classes)
    elif name == "paper":
        network = AlexNet(classes, name)
        for child, module in list(network.named_children()):
            if isinstance(module, nn.ReLU):
                setattr(network, child, nn.ReLU(inplace=True))
    elif name.startswith("timm:"):
        network = timm.create_model(name.removeprefix("timm:"), num_classes=classes)
    else:
        network = models.get_model(name, num_classes=classes)
    return network
