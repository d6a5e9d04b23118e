"""Copying layers from a state dict into a network; a mismatch is reported tensor by tensor."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stagetransfer.errors import UserError
from stagetransfer.models.alexnet import GROUPED, AlexNet, check_layers
from stagetransfer.names import LAYERS


@torch.no_grad()
def copy_layers(
    network: AlexNet, state: Mapping[str, Tensor], layers: Iterable[str] = LAYERS
) -> list[str]:
    """Copy the named layers' tensors from `state` into `network` and return the tensors' names.

    Either all of them are copied or none.

    Raises:
        UserError: an unknown layer, or a tensor that is missing in `state` or has another shape.
            The message lists all differences of names and shapes and what to set.
    """
    own = {
        f"{layer}.{kind}": parameter
        for layer in check_layers(layers)
        for kind, parameter in network.get_submodule(layer).named_parameters()
    }
    differences, advice = [], []
    for name, parameter in own.items():
        shape = tuple(parameter.shape)
        if name not in state:
            differences.append(f"- {name}: file nothing, network {shape}")
            advice.append("Leave missing layers out of the layers that are carried over")
        elif (other := tuple(state[name].shape)) != shape:
            differences.append(f"+- {name}: file {other}, network {shape}")
            advice.append(_advice(name, other, shape))
    if differences:
        what_to_do = ". Or: ".join(dict.fromkeys(advice))
        raise UserError(f"weights: do not fit the network: {'; '.join(differences)}. {what_to_do}.")
    for name, parameter in own.items():
        parameter.copy_(state[name])
    return list(own)


def _advice(name: str, file: tuple[int, ...], network: tuple[int, ...]) -> str:
    """Return what to set so that a tensor of the file's shape fits the network."""
    layer = name.split(".")[0]
    if layer == "fc8":
        return "Set num_classes, or leave fc8 out of the layers that are carried over"
    if file[:1] == network[:1] and len(file) == len(network):
        if layer in GROUPED and file[1] < network[1] and network[1] % file[1] == 0:
            return f"Set groups={network[1] // file[1]}"
        if layer in GROUPED and network[1] < file[1]:
            return "Set groups=1"
        if layer == "fc6":
            return (
                "Set input_size to that of the file, or leave fc6 out of the layers that are "
                "carried over"
            )
    return "Set the variant that the file was made for"
