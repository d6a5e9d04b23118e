"""Where a backward pass starts: the vector of a vector-Jacobian product."""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stagetransfer.errors import UserError

Start = (
    Literal["features", "class"]
    | tuple[Literal["channel"], int]
    | tuple[Literal["neuron"], int | tuple[int, ...]]
    | tuple[Literal["class"], int]
)
"""What is taken back to the input, the same for each image of a batch. Numbers start at 0.

* "features": the whole output of the layer, with its own activations.
* ("channel", c): channel c with its own activations, and 0 in all other channels.
* ("neuron", (c, y, x)): 1 at this neuron, 0 elsewhere. In ("neuron", i), i counts the flattened
  output (C, H, W).
* ("class", k): 1 at the score of class k, 0 elsewhere. "class": the same at each image's highest
  score. These are scores of the whole network, whatever layer is asked for.
"""


def is_class(start: Start) -> bool:
    """Return whether it is the score of a class, an output of the whole network."""
    return start == "class" or (isinstance(start, tuple) and start[:1] == ("class",))


def start_signal(features: Tensor, layer: str, start: Start) -> Tensor:
    """Return what is taken back from a layer's output (N, ...), with the same shape and type."""
    if start == "features":
        return features
    shape = tuple(features.shape[1:])
    if is_class(start) and len(shape) != 1:
        raise UserError(
            f"start={start!r}: the output of {layer} has the shape {shape} per image, which are "
            "not class scores. Use a whole network, or another start."
        )
    signal = torch.zeros_like(features)
    match start:
        case "class":
            signal.scatter_(1, features.argmax(1, keepdim=True), 1)
        case ("channel", int(channel)) if 0 <= channel < shape[0]:
            signal[:, channel] = features[:, channel]
        case ("class", int(label)) if 0 <= label < shape[0]:
            signal[:, label] = 1
        case ("neuron", int(number)) if 0 <= number < math.prod(shape):
            signal.movedim(0, -1)[tuple(int(i) for i in np.unravel_index(number, shape))] = 1
        case ("neuron", (int(), *_) as position) if _within(position, shape):
            signal.movedim(0, -1)[tuple(position)] = 1
        case ("channel" | "class" | "neuron", _):
            raise UserError(
                f"start={start!r}: it lies outside the output of {layer}, which has the shape "
                f"{shape} per image. Use numbers from 0 to the size minus 1."
            )
        case _:
            raise UserError(
                f"start={start!r}: unknown. Use 'features', 'class', ('class', k), ('channel', c), "
                "('neuron', i) or ('neuron', (c, y, x))."
            )
    return signal


def _within(position: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(position) == len(shape) and all(
        isinstance(i, int) and 0 <= i < size for i, size in zip(position, shape, strict=True)
    )
