"""Local response normalisation, exact and faster than PyTorch's.

    b_c = a_c * s_c ** -beta,   s_c = k + alpha / n * sum(a_j ** 2 for j in window(c))

Krizhevsky, Sutskever, Hinton 2012, section 3.3, with alpha divided by the window's size n as in
Caffe and in `torch.nn.LocalResponseNorm`. The window of channel c holds the channels from
c - n // 2 to c + (n - 1) // 2, cut off at the first and the last channel.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

_HALF = (torch.bfloat16, torch.float16)


class LocalResponseNorm(nn.LocalResponseNorm):
    """`torch.nn.LocalResponseNorm` with the same result, in less time.

    Takes and returns (N, C, ...) with three dimensions or more, keeping dtype and memory format;
    bfloat16 and float16 are computed in float32. Differentiable once; a backward pass with
    create_graph=True raises RuntimeError.

        norm1 = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    """

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> None:
        super().__init__(size, alpha, beta, k)

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() < 3:
            raise ValueError(f"LRN needs (N, C, ...) of 3 dimensions or more, not {input.dim()}")
        result = _Normalise.apply(input, self.size, self.alpha, self.beta, self.k)
        return cast(Tensor, result)


class _Normalise(torch.autograd.Function):
    """Keeps the input and s for the backward pass: one tensor more than the input itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        wide = _widen(x)
        s = _window_sum(wide.square(), size // 2, (size - 1) // 2).mul_(alpha / size).add_(k)
        ctx.save_for_backward(x, s)
        return _inverse_power(s, beta).mul_(wide).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        # PyTorch's once_differentiable lets a constant outer gradient through, with a silent zero.
        if torch.is_grad_enabled():
            raise RuntimeError("LRN has no second derivative: do without create_graph=True")
        # dx_c = g_c s_c^-beta - 2 alpha beta / n * x_c * sum(g_j x_j s_j^(-beta-1)), where j are
        # the channels whose window holds c: the window mirrored.
        x, s = ctx.saved_tensors
        wide, grad_wide = _widen(x), _widen(grad)
        direct = _inverse_power(s, ctx.beta).mul_(grad_wide)
        across = _window_sum(direct.mul(wide).div_(s), (ctx.size - 1) // 2, ctx.size // 2)
        factor = -2 * ctx.alpha * ctx.beta / ctx.size
        return direct.addcmul_(across, wide, value=factor).to(x.dtype), None, None, None, None


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in _HALF else x


def _inverse_power(s: Tensor, beta: float) -> Tensor:
    """s ** -beta as a new tensor; for the usual beta by roots, which cost a fraction of `pow`."""
    if beta == 0.75:
        root = s.rsqrt()
        return root.sqrt().mul_(root)
    return s.pow(-beta)


def _window_sum(x: Tensor, before: int, after: int) -> Tensor:
    """out[:, c] = sum of x[:, c - before : c + after + 1], channels outside x being zero."""
    total = x.clone()
    for shift in range(1, before + 1):
        total[:, shift:] += x[:, :-shift]
    for shift in range(1, after + 1):
        total[:, :-shift] += x[:, shift:]
    return total
