"""Learning rates by block: an ordered list of (pattern, factor); the first match decides."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stagetransfer.config.schema import Recipe
from stagetransfer.errors import UserError
from stagetransfer.models import Backbone


def rates_by_block(blocks: Sequence[str], rates: Sequence[Sequence[Any]]) -> dict[str, float]:
    """Return each block's factor: that of the first expression that matches its whole name.

    `rates` are pairs (regular expression, factor). An invalid expression, one that matches no
    block, and a block without a match are a UserError.
    """
    result: dict[str, float] = {}
    for pattern, factor in rates:
        try:
            matches = [block for block in blocks if re.fullmatch(pattern, block)]
        except re.error as error:
            raise UserError(
                f"transfer.rates: {pattern!r} is not a regular expression ({error}). Correct it."
            ) from error
        if not matches:
            raise UserError(
                f"transfer.rates: {str(pattern)!r} matches none of the blocks {', '.join(blocks)}. "
                "Correct or remove it."
            )
        for block in matches:
            result.setdefault(block, float(factor))
    if missing := [block for block in blocks if block not in result]:
        raise UserError(
            f"transfer.rates: no entry matches {', '.join(missing)}. End the list with ['.*', 1]."
        )
    return result


def base_rate(recipe: Recipe) -> float:
    """Return the optimiser's learning rate; 1 for "auto", before the range test."""
    lr = recipe.optimizer["lr"]
    return 1.0 if lr == "auto" else float(lr)


def parameter_groups(
    network: Backbone, recipe: Recipe, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return optimiser groups of the parameters that need a gradient, by block and kind.

    The kinds are biases (named bias), other parameters of one dimension, mostly of normalisations
    (norm), and all others (weight). A group has the `block` and the name "block.kind". Its learning
    rate is `base_rate` times the factor of its block in `rates`, for biases also times `bias_rate`,
    which is 2 in Caffe and Tajbakhsh et al. 2016. Biases have weight decay only with
    `bias_decay`, and normalisations only with `norm_decay`. Groups are built by identity:
    Lightning's helper compares values and so drops biases that are equal.
    """
    lr = base_rate(recipe)
    weight_decay = float(recipe.optimizer.get("weight_decay", 0.0))
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for name, parameter in network.net.named_parameters():
        if not parameter.requires_grad:
            continue
        block = network.block_of(name)
        kind = "bias" if name.endswith("bias") else "norm" if parameter.dim() < 2 else "weight"
        decays = {"bias": recipe.bias_decay, "norm": recipe.norm_decay, "weight": True}[kind]
        group = {
            "params": [],
            "lr": lr * rates[block] * (recipe.bias_rate if kind == "bias" else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
            "name": f"{block}.{kind}",
            "block": block,
        }
        groups.setdefault((block, kind), group)["params"].append(parameter)
    return list(groups.values())
