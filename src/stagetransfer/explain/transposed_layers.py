"""From a layer's output back to the input, by the transpose of every layer on the way.

The network itself is never called, so hooks do not run and nothing of it can change: each layer's
formula is applied to its input, and what the way back needs is kept. Which formula belongs to a
module is decided by the `forward` it runs, not by its class, so that a subclass with a forward of
its own is refused instead of being taken for what it inherits from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagetransfer.errors import UserError
from stagetransfer.models import BlockedLinear, WinogradConv2d

aten = torch.ops.aten

Back = Callable[[Tensor], Tensor]
"""From what lies at a layer's output to what lies at its input."""

Rule = Callable[[Any, Tensor], tuple[Tensor, Back]]
"""From a module and its input (N, ...) to its output (N, ...) and the way back."""

Rules = Mapping[Callable[..., Any], Rule]
"""The rule for modules that run this `forward`."""


@torch.no_grad()
def reverse(
    network: nn.Module,
    images: Tensor,
    layer: str | None,
    seed: Callable[[Tensor, str], Tensor],
    rules: Rules,
) -> Tensor:
    """Takes `seed(output of layer, its name)` back to the input; layer None is the last one.

    Raises UserError for images that are not (N, C, H, W) floats, an unknown layer, a module
    without a rule on the way.
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise UserError(
            f"images: {tuple(images.shape)} of {images.dtype}; needs (N, C, H, W) floating point"
        )
    way: list[Back] = []
    path = _path(network, layer, rules)
    x = images
    # Under autocast a layer's input, weight and output would differ in type.
    with torch.autocast(images.device.type, enabled=False):
        for module, rule in path:
            x, back = rule(module, x)
            way.append(back)
        x = seed(x, layer or _leaves(network)[-1][0])
        while way:  # popped, so that each layer's tensors are freed once it is passed
            x = way.pop()(x)
    return x


def _path(network: nn.Module, layer: str | None, rules: Rules) -> list[tuple[nn.Module, Rule]]:
    leaves = _leaves(network)
    ends = [
        number
        for number, (name, _) in enumerate(leaves, start=1)
        if layer is None or f"{name}.".startswith(f"{layer}.")
    ]
    if not ends:
        # A layer inside of a module that is no nn.Sequential: it is that module we cannot pass.
        closed = [leaf for leaf in leaves if not leaf[0] or f"{layer}".startswith(f"{leaf[0]}.")]
        if not closed or _forward(closed[0][1]) in rules:
            names = ", ".join(name for name, _ in leaves)
            raise UserError(f"layer={layer}: the network has none of that name; use one of {names}")
        raise _unknown(*closed[0])
    path = []
    for name, module in leaves[: ends[-1]]:
        rule = rules.get(_forward(module))
        if rule is None or getattr(module, "padding_mode", "zeros") != "zeros":
            raise _unknown(name, module)
        path.append((module, rule))
    return path


def _leaves(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules in the order they run, nested nn.Sequential opened; a repeated one repeats."""

    def opened(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        if _forward(module) is not nn.Sequential.forward:
            yield name, module
            return
        for child, inner in module._modules.items():  # named_children() drops repetitions
            assert inner is not None
            yield from opened(f"{name}.{child}" if name else child, inner)

    return list(opened("", network))


def _forward(module: nn.Module) -> Callable[..., Any]:
    return getattr(module.forward, "__func__", module.forward)


def _unknown(name: str, module: nn.Module) -> UserError:
    return UserError(
        f"{name or 'network'} ({type(module).__name__}): cannot be reversed; use an nn.Sequential "
        "of Conv2d (zeros as padding), ReLU, MaxPool2d, AdaptiveAvgPool2d, LocalResponseNorm, "
        "Dropout, Flatten, Linear"
    )


def _convolution(module: nn.Conv2d, x: Tensor) -> tuple[Tensor, Back]:
    weight, stride, dilation, groups = module.weight, module.stride, module.dilation, module.groups
    margin: list[int] = []
    padding: tuple[int, ...] = (0, 0)
    if not isinstance(module.padding, str):
        padding = module.padding
    elif module.padding == "same":  # with an even kernel one more on the right and below
        for size, step in zip(reversed(module.kernel_size), reversed(dilation), strict=True):
            total = step * (size - 1)
            margin += [total // 2, total - total // 2]
    padded = F.pad(x, margin) if margin else x
    y = F.conv2d(padded, weight, module.bias, stride, padding, dilation, groups)

    def back(g: Tensor) -> Tensor:
        result: Tensor = aten.convolution_backward(
            g,
            padded,
            weight,
            None,
            stride,
            padding,
            dilation,
            False,
            (0, 0),
            groups,
            (True, False, False),
        )[0]
        return F.pad(result, [-side for side in margin]) if margin else result

    return y, back


def _linear(module: nn.Linear, x: Tensor) -> tuple[Tensor, Back]:
    weight = module.weight
    return F.linear(x, weight, module.bias), lambda g: g @ weight


def _max_pool(module: nn.MaxPool2d, x: Tensor) -> tuple[Tensor, Back]:
    """Back through the switches; where windows share a maximum, their contributions add."""
    window = [
        [value, value] if isinstance(value, int) else list(value)
        for value in (module.kernel_size, module.stride, module.padding, module.dilation)
    ]
    y, switches = aten.max_pool2d_with_indices(x, *window, module.ceil_mode)

    def back(g: Tensor) -> Tensor:
        result: Tensor = aten.max_pool2d_with_indices_backward(
            g, x, *window, module.ceil_mode, switches
        )
        return result

    return y, back


def _mean_pool(module: nn.AdaptiveAvgPool2d, x: Tensor) -> tuple[Tensor, Back]:
    def back(g: Tensor) -> Tensor:
        result: Tensor = aten._adaptive_avg_pool2d_backward(g, x)
        return result

    return F.adaptive_avg_pool2d(x, module.output_size), back


def _flatten(module: nn.Flatten, x: Tensor) -> tuple[Tensor, Back]:
    shape = x.shape
    return x.flatten(module.start_dim, module.end_dim), lambda g: g.reshape(shape)


def _nothing(module: nn.Module, x: Tensor) -> tuple[Tensor, Back]:
    return x, lambda g: g


COMMON: Rules = {
    nn.Conv2d.forward: _convolution,
    WinogradConv2d.forward: _convolution,
    nn.Linear.forward: _linear,
    BlockedLinear.forward: _linear,
    nn.MaxPool2d.forward: _max_pool,
    nn.AdaptiveAvgPool2d.forward: _mean_pool,
    nn.Flatten.forward: _flatten,
    nn.Dropout.forward: _nothing,
    nn.Dropout2d.forward: _nothing,
    nn.Identity.forward: _nothing,
}
"""The layers that every method reverses alike; the bias of Conv2d and Linear is ignored."""
