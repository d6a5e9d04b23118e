"""Weights copied into the blocks of a network, all of them or none."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stagetransfer.errors import UserError
from stagetransfer.models.alexnet import GROUPED, AlexNet
from stagetransfer.models.backbone import Backbone


@torch.no_grad()
def copy_blocks(
    network: Backbone, state: Mapping[str, Tensor], blocks: Iterable[str] | None = None
) -> None:
    """Copy the tensors of some blocks (None: all) from `state`, either all of them or none.

    The UserError for tensors that are missing or have another shape lists all differences and what
    to set.
    """
    own = network.state(blocks)
    differences, advice = [], []
    for name, value in own.items():
        shape = tuple(value.shape)
        if name not in state:
            differences.append(f"- {name}: file nothing, network {shape}")
            advice.append("Leave missing blocks out of the blocks that are carried over")
        elif (other := tuple(state[name].shape)) != shape:
            differences.append(f"+- {name}: file {other}, network {shape}")
            advice.append(_advice(network, name, other, shape))
    if differences:
        shown = "; ".join(differences[:8]) + f" and {len(differences) - 8} more" * (
            len(differences) > 8
        )
        what_to_do = ". Or: ".join(dict.fromkeys(advice))
        raise UserError(f"weights: do not fit the network: {shown}. {what_to_do}.")
    for name, value in own.items():
        value.copy_(state[name])


def _advice(network: Backbone, name: str, file: tuple[int, ...], shape: tuple[int, ...]) -> str:
    block = network.block_of(name)
    leave_out = f"or leave {block} out of the blocks that are carried over"
    if block == network.blocks[-1]:
        return f"Set num_classes, {leave_out}"
    if not isinstance(network.net, AlexNet):
        return f"Use the network that the file was made for, {leave_out}"
    if file[:1] == shape[:1] and len(file) == len(shape):
        if block in GROUPED and file[1] < shape[1] and shape[1] % file[1] == 0:
            return f"Set groups={shape[1] // file[1]}"
        if block in GROUPED and shape[1] < file[1]:
            return "Set groups=1"
        if block == "fc6":
            return f"Set input_size to that of the file, {leave_out}"
    return "Set the variant that the file was made for"
