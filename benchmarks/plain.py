"""Replacing the framework's faster layers by PyTorch's own."""

from __future__ import annotations

from torch import nn

from stagetransfer.models import BlockedLinear, LocalResponseNorm, WinogradConv2d


def make_plain(
    network: nn.Module, *, convolutions: bool = True, linear: bool = True, lrn: bool = True
) -> None:
    """Replace these layers in place."""
    for module in network.modules():
        if isinstance(module, WinogradConv2d) and convolutions:
            module.winograd = False
        elif isinstance(module, BlockedLinear) and linear:
            module.__class__ = nn.Linear  # type: ignore[assignment]
        elif isinstance(module, LocalResponseNorm) and lrn:
            module.__class__ = nn.LocalResponseNorm  # type: ignore[assignment]
