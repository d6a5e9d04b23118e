"""Learning rates by layer: an ordered list of (pattern, factor); the first match decides."""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from stagetransfer.errors import UserError
from stagetransfer.models import layer_of

SAME_RATE: tuple[tuple[str, float], ...] = ((".*", 1.0),)
"""Every layer is trained at the optimiser's own learning rate."""


def rates_by_layer(
    layers: Sequence[str], rates: Sequence[Sequence[Any]] = SAME_RATE
) -> dict[str, float]:
    """Return the factor by which each layer's learning rate differs from the optimiser's.

    Args:
        layers: layer names such as "conv1".
        rates: pairs (regular expression, factor). A layer gets the factor of the first expression
            that matches its whole name.

    Raises:
        UserError: an invalid expression, one that matches no layer, or a layer without a match.
    """
    result: dict[str, float] = {}
    for pattern, factor in rates:
        try:
            matches = [layer for layer in layers if re.fullmatch(pattern, layer)]
        except re.error as error:
            raise UserError(
                f"transfer.rates: {pattern!r} is not a regular expression ({error}). Correct it."
            ) from error
        if not matches:
            raise UserError(
                f"transfer.rates: {str(pattern)!r} matches none of the layers {', '.join(layers)}. "
                "Correct or remove it."
            )
        for layer in matches:
            result.setdefault(layer, float(factor))
    if missing := [layer for layer in layers if layer not in result]:
        raise UserError(
            f"transfer.rates: no entry matches {', '.join(missing)}. End the list with ['.*', 1]."
        )
    return result


def parameter_groups(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.0,
    rates: Sequence[Sequence[Any]] = SAME_RATE,
    bias_rate: float = 1.0,
    bias_decay: bool = False,
) -> list[dict[str, Any]]:
    """Return one optimiser group for each parameter that requires a gradient.

    The learning rate of a group is `lr` times the factor of its layer, for biases also times
    `bias_rate`. Groups are built by identity: Lightning's helper compares values and so drops
    biases that are equal.

    Args:
        network: its parameters are named "<layer>.weight" and "<layer>.bias".
        lr: the optimiser's learning rate.
        weight_decay: weight decay of the weights; biases have it only with `bias_decay`.
        rates: see `rates_by_layer`.
        bias_rate: learning rate of biases relative to weights (2 in Caffe and Tajbakhsh 2016).
        bias_decay: whether weight decay also applies to biases.

    Returns:
        Groups with the keys params, lr, weight_decay and name (such as "conv1.weight").
    """
    layers = list(dict.fromkeys(layer_of(name) for name, _ in network.named_parameters()))
    factors = rates_by_layer(layers, rates)
    groups = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        is_bias = name.endswith(".bias")
        groups.append(
            {
                "params": [parameter],
                "lr": lr * factors[layer_of(name)] * (bias_rate if is_bias else 1.0),
                "weight_decay": 0.0 if is_bias and not bias_decay else weight_decay,
                "name": name,
            }
        )
    return groups
