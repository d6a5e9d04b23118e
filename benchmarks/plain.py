"""Replacing the framework's faster layers by PyTorch's own."""

from __future__ import annotations

from torch import nn

from stagetransfer.models import AlexNet, BlockedLinear, LocalResponseNorm, WinogradConv2d


def make_plain(
    network: AlexNet, *, convolutions: bool = True, linear: bool = True, lrn: bool = True
) -> None:
    """Replace these layers in place; new linear layers have new random weights."""
    for child, module in list(network.named_children()):
        if isinstance(module, WinogradConv2d) and convolutions:
            module.winograd = False
        elif isinstance(module, BlockedLinear) and linear:
            setattr(network, child, nn.Linear(module.in_features, module.out_features))
        elif isinstance(module, LocalResponseNorm) and lrn:
            plain = nn.LocalResponseNorm(module.size, module.alpha, module.beta, module.k)
            setattr(network, child, plain)
