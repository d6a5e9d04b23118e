"""The control beside each picture: networks whose layers are randomised, from the last one on.

Adebayo et al. 2018, "Sanity checks for saliency maps" (NeurIPS), cascading randomisation: first
fc8 is drawn anew, then fc8 and fc7, at last every layer. A picture that stays the same through it
says nothing about what the network has learnt.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import nn

from stagetransfer.errors import UserError


def cascade(network: nn.Module, generator: torch.Generator) -> Iterator[tuple[str, nn.Module]]:
    """Yields (layer, copy of the network with that layer and all after it randomised), from the
    last layer to the first.

    Layers are the modules with parameters, each Conv2d or Linear. Weights are drawn from
    N(0, 2 / fan_in), biases are 0 (He et al. 2015, eq. 10), so that activations keep their size.
    What is randomised in one copy has the same values in the next. `generator` is one of the CPU;
    its state decides the values, on every device. The network itself is left as it is, each copy
    is the caller's.

    Raises UserError if a module with parameters is of another kind.
    """
    current = network
    for layer in reversed(_layers(network)):
        current = copy.deepcopy(current)
        _randomise(current.get_submodule(layer), generator)
        yield layer, current


def randomised(network: nn.Module, from_layer: str, generator: torch.Generator) -> nn.Module:
    """A copy of the network with `from_layer` and all layers after it randomised: the same as
    `cascade` yields for that layer from a generator in the same state.

    Raises UserError if there is no such layer with parameters, or as `cascade` does.
    """
    layers = _layers(network)
    if from_layer not in layers:
        raise UserError(
            f"from_layer={from_layer}: no layer with parameters; use one of {', '.join(layers)}"
        )
    result = copy.deepcopy(network)
    for layer in reversed(layers[layers.index(from_layer) :]):
        _randomise(result.get_submodule(layer), generator)
    return result


def _layers(network: nn.Module) -> list[str]:
    names = []
    for name, module in network.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        if not isinstance(module, nn.Conv2d | nn.Linear):
            raise UserError(
                f"{name} ({type(module).__name__}): cannot be randomised; only Conv2d and Linear"
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
