"""Rates by layer: an ordered list of (pattern, rate); the first match decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from stagetransfer.errors import UserError
from stagetransfer.models import layer_of

EVERY_LAYER: tuple[tuple[str, float], ...] = ((".*", 1.0),)


def rates_by_layer(
    layers: Sequence[str], rates: Sequence[Sequence[Any]] = EVERY_LAYER
) -> dict[str, float]:
    """The rate of each layer: that of the first pattern that matches its whole name.

    Args:
        layers: names such as "conv1".
        rates: pairs (regular expression, rate); the rate multiplies the optimiser's.

    Raises:
        UserError: a layer that no pattern covers, a pattern that is none or matches nothing.
    """
    result: dict[str, float] = {}
    for layer in layers:
        for pattern, rate in rates:
            try:
                hit = re.fullmatch(pattern, layer)
            except re.error as error:
                raise UserError(f"transfer.rates: {pattern!r} is no pattern: {error}") from error
            if hit:
                result[layer] = float(rate)
                break
    uncovered = [layer for layer in layers if layer not in result]
    if uncovered:
        names = ", ".join(uncovered)
        raise UserError(f"transfer.rates gives no rate to {names}; end the list with ['.*', 1]")
    unused = [str(p) for p, _ in rates if not any(re.fullmatch(p, layer) for layer in layers)]
    if unused:
        raise UserError(f"transfer.rates: {unused[0]!r} matches none of {', '.join(layers)}")
    return result


def parameter_groups(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.0,
    rates: Sequence[Sequence[Any]] = EVERY_LAYER,
    bias_rate: float = 1.0,
    bias_decay: bool = False,
) -> list[dict[str, Any]]:
    """One optimiser group for the weights and one for the biases of each tuned layer.

    All groups are made at once and by identity of the parameters: every parameter that requires a
    gradient is in exactly one. `lr` of a group is lr * rate(layer) [* bias_rate for biases].

    Args:
        network: a network whose parameters are named "<layer>.weight" and "<layer>.bias".
        lr: the optimiser's rate.
        weight_decay: on weights; on biases only with `bias_decay`.
        rates: see `rates_by_layer`.
        bias_rate: rate of a bias over that of its layer's weights (2 in Caffe and Tajbakhsh 2016).

    Returns:
        Groups with the keys params, lr, weight_decay and name ("conv1.weight").
    """
    layers = dict.fromkeys(layer_of(name) for name, _ in network.named_parameters())
    rate = rates_by_layer(list(layers), rates)
    groups = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        is_bias = name.endswith(".bias")
        groups.append(
            {
                "params": [parameter],
                "lr": lr * rate[layer_of(name)] * (bias_rate if is_bias else 1.0),
                "weight_decay": 0.0 if is_bias and not bias_decay else weight_decay,
                "name": name,
            }
        )
    return groups
