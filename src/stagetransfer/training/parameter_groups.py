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
    """Return each layer's factor: that of the first expression that matches its whole name.

    `rates` are pairs (regular expression, factor). An invalid expression, one that matches no
    layer, and a layer without a match are a UserError.
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
    """Return one optimiser group, named like "conv1.weight", per parameter that needs a gradient.

    The learning rate of a group is `lr` times the factor of its layer (see `rates_by_layer`), for
    biases also times `bias_rate`, which is 2 in Caffe and Tajbakhsh et al. 2016. Biases have
    weight decay only with `bias_decay`. Groups are built by identity: Lightning's helper compares
    values and so drops biases that are equal.
    """
    layers = list(dict.fromkeys(layer_of(name) for name, _ in network.named_parameters()))
    factors = rates_by_layer(layers, rates)
    groups = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_bias = name.endswith(".bias")
            rate = lr * factors[layer_of(name)] * (bias_rate if is_bias else 1.0)
            decay = 0.0 if is_bias and not bias_decay else weight_decay
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay, "name": name})
    return groups
