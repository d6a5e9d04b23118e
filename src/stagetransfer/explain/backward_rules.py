"""Take a signal from a layer's output back to the network's input, with one rule per layer type.

A rule computes a module's output and returns the function that takes a signal back from there to
the module's input. Modules are never called, so their hooks do not run and nothing in them changes.
A rule is looked up by the `forward` method that a module runs, not by its class: a subclass with a
`forward` of its own is refused instead of being treated as its base class.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from stagetransfer.errors import UserError
from stagetransfer.models import BlockedLinear, WinogradConv2d

Backward = Callable[[Tensor], Tensor]
"""Takes a signal from a layer's output (N, ...) to its input (N, ...)."""

Rule = Callable[[Any, Tensor], tuple[Tensor, Backward]]
"""Returns, for a module and its input (N, ...), the output (N, ...) and the way back."""

Rules = Mapping[Callable[..., Any], Rule]
"""The rule of all modules that run this `forward`."""


def backpropagate(
    network: nn.Module,
    images: Tensor,
    layer: str | None,
    seed: Callable[[Tensor, str], Tensor],
    rules: Rules,
) -> Tensor:
    """Return the signal at the network's input (N, C, H, W) that `seed` starts at a layer.

    `seed` gets the layer's output and name. If `layer` is None, the last one is used.

    Raises:
        UserError: unusable images, an unknown layer, or a module up to it without a rule.
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise UserError(
            f"images: their shape is {tuple(images.shape)} and their type {images.dtype}. "
            "Use (N, C, H, W) floating point."
        )
    way_back: list[Backward] = []
    # Autocast would give a layer's input, weight and output different types.
    autocast_off = torch.autocast(images.device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), autocast_off:
        # Autograd refuses tensors that were created in inference mode; their copies are normal.
        x = images.clone() if images.is_inference() else images.detach()
        if any(parameter.is_inference() for parameter in network.parameters()):
            network = copy.deepcopy(network)
        for module, rule in _path(network, layer, rules):
            x, backward = rule(module, x)
            way_back.append(backward)
        x = seed(x, layer or _leaves(network)[-1][0])
        while way_back:  # pop() frees the tensors of each layer as soon as it has been passed
            x = way_back.pop()(x)
    return x


def gradient_rule(function: Callable[[Any, Tensor], Tensor]) -> Rule:
    """Return the rule that takes a signal back by the vector-Jacobian product of the layer.

    For convolutions and linear layers this is the plain transpose: their bias plays no part. In a
    max-pool each value returns to the position of its maximum. Where several windows share a
    maximum, their contributions add up. `function` computes the output from module and input.
    """

    def rule(module: nn.Module, x: Tensor) -> tuple[Tensor, Backward]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = function(module, x)
        return y.detach(), lambda signal: torch.autograd.grad(y, x, signal)[0]

    return rule


def identity_rule(function: Callable[[Any, Tensor], Tensor]) -> Rule:
    """Return the rule that takes a signal back unchanged; `function` as in `gradient_rule`."""
    return lambda module, x: (function(module, x), lambda signal: signal)


def _path(network: nn.Module, layer: str | None, rules: Rules) -> list[tuple[nn.Module, Rule]]:
    """Return the modules up to and including the layer, each with its rule."""
    leaves = _leaves(network)
    ends = [
        number
        for number, (name, _) in enumerate(leaves, start=1)
        if layer is None or f"{name}.".startswith(f"{layer}.")
    ]
    if not ends:
        # The layer may lie inside a module that is not an nn.Sequential and cannot be opened.
        closed = [leaf for leaf in leaves if not leaf[0] or f"{layer}".startswith(f"{leaf[0]}.")]
        if not closed or _forward(closed[0][1]) in rules:
            names = ", ".join(name for name, _ in leaves)
            raise UserError(f"layer={layer}: the network has no such layer. Use one of {names}.")
        raise _unsupported(*closed[0])
    path = []
    for name, module in leaves[: ends[-1]]:
        rule = rules.get(_forward(module))
        if rule is None or getattr(module, "padding_mode", "zeros") != "zeros":
            raise _unsupported(name, module)
        path.append((module, rule))
    return path


def _leaves(network: nn.Module, name: str = "") -> list[tuple[str, nn.Module]]:
    """Return the modules in the order they run; those inside a nested nn.Sequential one by one."""
    if _forward(network) is not nn.Sequential.forward:
        return [(name, network)]
    # named_children() would leave out a module that is used a second time.
    return [
        leaf
        for child, module in network._modules.items()
        for leaf in _leaves(cast(nn.Module, module), f"{name}.{child}" if name else child)
    ]


def _forward(module: nn.Module) -> Callable[..., Any]:
    return getattr(module.forward, "__func__", module.forward)


def _unsupported(name: str, module: nn.Module) -> UserError:
    return UserError(
        f"{name or 'network'} ({type(module).__name__}): no rule takes a signal back through it. "
        "Use an nn.Sequential of Conv2d (with zero padding), ReLU, MaxPool2d, AdaptiveAvgPool2d, "
        "LocalResponseNorm, Dropout, Flatten and Linear."
    )


COMMON_RULES: Rules = {
    **{
        layer.forward: gradient_rule(layer.forward)
        for layer in (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten)
    },
    # PyTorch's own operators, which are exact, in place of our faster ones.
    WinogradConv2d.forward: gradient_rule(nn.Conv2d.forward),
    BlockedLinear.forward: gradient_rule(nn.Linear.forward),
    **dict.fromkeys(
        (nn.Dropout.forward, nn.Dropout2d.forward, nn.Identity.forward),
        identity_rule(lambda module, x: x),
    ),
}
"""The layers that all methods treat alike; dropout is off as in evaluation mode."""
