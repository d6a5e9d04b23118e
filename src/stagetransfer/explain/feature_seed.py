"""Where the way back to the input starts, and with what values."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stagetransfer.errors import UserError

Seed = (
    Literal["features", "class"]
    | tuple[Literal["channel"], int]
    | tuple[Literal["neuron"], int | tuple[int, ...]]
    | tuple[Literal["class"], int]
)
"""What is taken back to the input, the same for each image of a batch. Numbers start at 0.

* "features": the whole output of the layer with its own activations.
* ("channel", c): channel c of it with its own activations, the others 0.
* ("neuron", (c, y, x)): 1 there, else 0; ("neuron", i): i counts the flattened output (C, H, W).
* ("class", k): 1 at the score of class k, else 0; "class": at the highest score of each image.
  A class seed is set at the network's last layer, whatever layer is asked for.
"""


def is_class(seed: Seed) -> bool:
    """Whether the seed is set at the last layer."""
    match seed:
        case "class" | ("class", *_):
            return True
    return False


def seeded(features: Tensor, layer: str, seed: Seed) -> Tensor:
    """The seed for a layer's output (N, ...), of the same shape and type.

    Raises UserError for a seed of another form, or one that is not within the output.
    """
    if seed == "features":
        return features
    shape = tuple(features.shape[1:])
    if is_class(seed) and len(shape) != 1:
        raise UserError(
            f"seed={seed!r}: the last layer {layer} gives {shape} an image, no scores of classes; "
            "use a whole network, or another seed"
        )
    result = torch.zeros_like(features)
    match seed:
        case "class":
            result.scatter_(1, features.argmax(1, keepdim=True), 1)
        case ("channel", int(channel)) if 0 <= channel < shape[0]:
            result[:, channel] = features[:, channel]
        case ("class", int(label)) if 0 <= label < shape[0]:
            result[:, label] = 1
        case ("neuron", int(number)) if 0 <= number < math.prod(shape):
            result.movedim(0, -1)[tuple(int(i) for i in np.unravel_index(number, shape))] = 1
        case ("neuron", (int(), *_) as place) if _within(place, shape):
            result.movedim(0, -1)[tuple(place)] = 1
        case ("channel" | "class" | "neuron", _):
            raise UserError(
                f"seed={seed!r}: not within the output of {layer}, which is {shape} an image; "
                "numbers start at 0"
            )
        case _:
            raise UserError(
                f"seed={seed!r}: unknown; use 'features', 'class', ('class', k), ('channel', c), "
                "('neuron', i) or ('neuron', (c, y, x))"
            )
    return result


def _within(position: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(position) == len(shape) and all(
        isinstance(i, int) and 0 <= i < size for i, size in zip(position, shape, strict=True)
    )
