"""Faster operators in the place of PyTorch's, with the same results."""

from torch import nn

from stagetransfer.models.blocked_linear import BlockedLinear
from stagetransfer.models.local_response_norm import LocalResponseNorm
from stagetransfer.models.winograd import WinogradConv2d

FASTER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: WinogradConv2d,
    nn.Linear: BlockedLinear,
    nn.LocalResponseNorm: LocalResponseNorm,
}


def accelerate(network: nn.Module, *, winograd: bool = True) -> None:
    """Let the layers of a network run our faster operators, in place.

    Only the class of a layer changes, so its tensors, its hooks and its name stay. Subclasses of
    PyTorch's layers are left alone. Each operator computes as PyTorch does where it is not faster.
    With `winograd`, convolutions use Winograd's method, which rounds differently.
    """
    for module in network.modules():
        if faster := FASTER.get(type(module)):
            module.__class__ = faster
        if isinstance(module, WinogradConv2d):
            module.winograd = winograd
