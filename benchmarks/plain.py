"""A network with PyTorch's own layers in place of the framework's faster ones."""

from __future__ import annotations

from torch import nn

from stagetransfer.models import AlexNet, Conv2d, Linear, LocalResponseNorm


def make_plain(
    network: AlexNet, *, convolutions: bool = True, linear: bool = True, lrn: bool = True
) -> None:
    """Changes these layers in place; linear layers are drawn anew."""
    for child, module in list(network.named_children()):
        if isinstance(module, Conv2d) and convolutions:
            module.winograd = False
        elif isinstance(module, Linear) and linear:
            setattr(network, child, nn.Linear(module.in_features, module.out_features))
        elif isinstance(module, LocalResponseNorm) and lrn:
            plain = nn.LocalResponseNorm(module.size, module.alpha, module.beta, module.k)
            setattr(network, child, plain)
