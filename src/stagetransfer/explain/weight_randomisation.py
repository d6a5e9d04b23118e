"""The control of a saliency map: networks whose layers are re-initialised at random.

Adebayo et al. 2018, "Sanity checks for saliency maps" (NeurIPS), cascading randomisation: first
fc8 is re-initialised, then fc8 and fc7, and in the end every layer. A map that does not change on
the way says nothing about what the network has learnt.
"""

import copy
import math
from collections.abc import Iterator

import torch
from torch import nn

from stagetransfer.errors import UserError


def cascading_randomisation(
    network: nn.Module, generator: torch.Generator
) -> Iterator[tuple[str, nn.Module]]:
    """Yield (layer, copy of the network with this and all later layers re-initialised).

    The first pair is that of the last layer, the last pair that of the first layer. Layers are the
    modules with parameters; only Conv2d and Linear are allowed. A layer has the same random weights
    in all copies. The network itself does not change, and the caller may change the copies.

    Weights are drawn from N(0, 2 / fan_in), biases are 0 (He et al. 2015, eq. 10), so that
    activations keep their size. The state of the CPU generator decides the weights, on every
    device.
    """
    current = network
    for layer in reversed(_layers(network)):
        current = copy.deepcopy(current)
        _randomise(current.get_submodule(layer), generator)
        yield layer, current


def randomised(network: nn.Module, from_layer: str, generator: torch.Generator) -> nn.Module:
    """Return the copy that `cascading_randomisation` yields for this layer."""
    layers = _layers(network)
    if from_layer not in layers:
        raise UserError(
            f"from_layer={from_layer}: no layer with parameters has this name. "
            f"Use one of {', '.join(layers)}."
        )
    cascade = cascading_randomisation(network, generator)
    return next(copied for layer, copied in cascade if layer == from_layer)


def _layers(network: nn.Module) -> list[str]:
    names = []
    for name, module in network.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        if not isinstance(module, nn.Conv2d | nn.Linear):
            raise UserError(
                f"{name} ({type(module).__name__}): cannot be randomised. "
                "Use a network whose parameters are all in Conv2d and Linear layers."
            )
        names.append(name)
    return names


@torch.no_grad()
def _randomise(layer: nn.Module, generator: torch.Generator) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    shape = layer.weight.shape
    std = math.sqrt(2 / math.prod(shape[1:]))
    layer.weight.copy_(torch.empty(shape, dtype=torch.float32).normal_(0, std, generator=generator))
    if layer.bias is not None:
        layer.bias.zero_()
