"""DeSaliNet, DeconvNet and SaliNet: saliency maps of the parts of an image that reach a layer.

Mahendran & Vedaldi 2016, "Salient deconvolutional networks" (ECCV), describe all three by one
reversed architecture. They differ in two layer types. x is the layer's input in the forward pass,
g the signal that comes back to the layer's output:

             ReLU                 max-pool    LRN
  DeconvNet  max(g, 0)            switches    identity        Zeiler & Fergus 2014
  SaliNet    g [x > 0]            switches    its gradient    Simonyan et al. 2014: the gradient
  DeSaliNet  max(g [x > 0], 0)    switches    identity        Springenberg et al. 2015: guided

Convolutions and linear layers go back by their plain transpose, without the bias. Dropout is off.
With `lrn="gradient"`, DeSaliNet is the vector-Jacobian product of guided backpropagation.

Such maps look much like the input whatever the weights are (Nie et al. 2018, Adebayo et al. 2018).
Show each beside its control with random weights; see `stagetransfer.explain.weight_randomisation`.

    maps = desalinet(network, images)                               # all of pool5, as in Fig. 6
    maps = desalinet(network, images, "conv3", ("channel", 7))
    maps = salinet(network, images, seed="class")                   # of each image's highest score

The maps are computed in the type of the images and weights, float32 by default, also within
`torch.autocast` and also for runs that were trained in bfloat16.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagetransfer.errors import UserError
from stagetransfer.explain.backward_rules import (
    COMMON_RULES,
    Rule,
    Rules,
    backpropagate,
    gradient_rule,
    identity_rule,
)
from stagetransfer.explain.backward_seed import Seed, is_class, seed_signal
from stagetransfer.models import LocalResponseNorm

Lrn = Literal["identity", "gradient"]


def desalinet(
    network: nn.Module,
    images: Tensor,
    layer: str = "pool5",
    seed: Seed = "features",
    *,
    lrn: Lrn = "identity",
) -> Tensor:
    """Return DeSaliNet's saliency maps of a layer, one per image: (N, C, H, W), signed, unscaled.

    The maps of a batch do not depend on each other. The network is neither called nor changed.

    Args:
        network: an nn.Sequential (nested ones are allowed) of Conv2d, ReLU, MaxPool2d,
            AdaptiveAvgPool2d, LocalResponseNorm, Dropout, Flatten and Linear; others up to the
            layer are a UserError.
        images: (N, C, H, W), normalised as for the network, in its type and on its device.
        layer: the name of a module of the network, such as "features.pool5" in a nested one.
        seed: what is taken back; see `stagetransfer.explain.backward_seed.Seed`.
        lrn: how local response normalisation is passed: "identity" as in the paper, or "gradient".
    """
    return _saliency("desalinet", network, images, layer, seed, lrn)


def deconvnet(
    network: nn.Module, images: Tensor, layer: str = "pool5", seed: Seed = "features"
) -> Tensor:
    """Return DeconvNet's saliency maps of a layer; arguments and errors as in `desalinet`."""
    return _saliency("deconvnet", network, images, layer, seed, "identity")


def salinet(
    network: nn.Module, images: Tensor, layer: str = "pool5", seed: Seed = "features"
) -> Tensor:
    """Return SaliNet's saliency maps, the gradient; arguments and errors as in `desalinet`."""
    return _saliency("salinet", network, images, layer, seed, "gradient")


METHODS = {"desalinet": desalinet, "deconvnet": deconvnet, "salinet": salinet}
TITLES = {"desalinet": "DeSaliNet", "deconvnet": "DeconvNet", "salinet": "SaliNet"}

_BATCH = 32


@dataclass(frozen=True)
class SaliencyMethod:
    """A method of `METHODS` with the layer and the seed that it is applied to."""

    name: str = "desalinet"
    layer: str = "pool5"
    seed: Seed = "features"

    def maps(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return the maps (N, C, H, W) of the images (N, C, H, W), computed in batches."""
        method, batches = METHODS[self.name], torch.split(images, _BATCH)
        return torch.cat([method(network, batch, self.layer, self.seed) for batch in batches])

    def __str__(self) -> str:
        """Return the method's description for titles: `DeSaliNet of pool5 (all features)`."""
        seed = "all features" if self.seed == "features" else self.seed
        return f"{TITLES[self.name]} of {self.layer} ({seed})"


def _saliency(
    method: str, network: nn.Module, images: Tensor, layer: str, seed: Seed, lrn: Lrn
) -> Tensor:
    if lrn not in _LRN_RULES:
        raise UserError(f"lrn={lrn}: unknown. Use one of {', '.join(get_args(Lrn))}.")
    rules: Rules = {
        **COMMON_RULES,
        nn.ReLU.forward: _RELU_RULES[method],
        nn.LocalResponseNorm.forward: _LRN_RULES[lrn],
        LocalResponseNorm.forward: _LRN_RULES[lrn],
    }
    start = None if is_class(seed) else layer
    return backpropagate(network, images, start, partial(seed_signal, seed=seed), rules)


_RELU_RULES: dict[str, Rule] = {
    "deconvnet": lambda module, x: (F.relu(x), F.relu),
    "salinet": lambda module, x: (F.relu(x), lambda g: torch.where(x > 0, g, 0)),
    "desalinet": lambda module, x: (F.relu(x), lambda g: torch.where(x > 0, F.relu(g), 0)),
}
# The forward of our own LRN for both, because PyTorch's has no bfloat16 on the CPU.
_LRN_RULES = {
    "identity": identity_rule(LocalResponseNorm.forward),
    "gradient": gradient_rule(LocalResponseNorm.forward),
}
