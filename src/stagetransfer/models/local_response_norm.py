"""Local response normalisation, exact and faster than PyTorch's.

    b_c = a_c * s_c ** -beta,   s_c = k + alpha / n * sum(a_j ** 2 for j in window(c))

Source: Krizhevsky, Sutskever & Hinton 2012, section 3.3, with alpha divided by the window's size n
as in Caffe and in `torch.nn.LocalResponseNorm`. The window of channel c holds the channels from
c - n // 2 to c + (n - 1) // 2 that exist.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

_CHUNK = 2**18  # elements per thread at once: 1 MB in float32


class LocalResponseNorm(nn.LocalResponseNorm):
    """`torch.nn.LocalResponseNorm` with the same result in less time.

    It takes and returns (N, C, ...) and keeps dtype and memory format. bfloat16 and float16 are
    computed in float32. There is no second derivative.

        norm1 = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    """

    def forward(self, input: Tensor) -> Tensor:
        result = _Normalise.apply(input, self.size, self.alpha, self.beta, self.k)
        return cast(Tensor, result)


class _Normalise(torch.autograd.Function):
    """LRN and its gradient. It keeps the input and s for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        wide_type = torch.promote_types(x.dtype, torch.float32)
        y, scale = torch.empty_like(x), torch.empty_like(x, dtype=wide_type)
        for some, out, s in zip(*map(_chunks, (x, y, scale)), strict=True):
            wide = some.to(s.dtype)
            _window_sum(wide.square(), size // 2, (size - 1) // 2, s).mul_(alpha / size).add_(k)
            out.copy_(_inverse_power(s, beta).mul_(wide))
        ctx.save_for_backward(x, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        # With PyTorch's once_differentiable, a constant outer gradient silently gives zero.
        if torch.is_grad_enabled():
            raise RuntimeError("LRN has no second derivative. Drop create_graph=True.")
        # dx_c = g_c s_c^-beta - 2 alpha beta / n * x_c * sum(g_j x_j s_j^(-beta-1)), where j are
        # the channels whose window contains c, that is the mirrored window.
        x, scale = ctx.saved_tensors
        result = torch.empty_like(x)
        factor = -2 * ctx.alpha * ctx.beta / ctx.size
        for some, outer, out, s in zip(*map(_chunks, (x, grad, result, scale)), strict=True):
            wide = some.to(s.dtype)
            direct = _inverse_power(s, ctx.beta).mul_(outer)
            terms = direct.mul(wide).div_(s)
            across = torch.empty_like(terms)
            _window_sum(terms, (ctx.size - 1) // 2, ctx.size // 2, across)
            out.copy_(direct.addcmul_(across, wide, value=factor))
        return result, None, None, None, None


def _chunks(x: Tensor) -> Sequence[Tensor]:
    """Split the batch on the CPU, so that intermediate results stay in the processor's caches."""
    if x.device.type != "cpu":
        return (x,)
    return x.chunk(max(1, x.numel() // (_CHUNK * torch.get_num_threads())))


def _inverse_power(s: Tensor, beta: float) -> Tensor:
    """Return s ** -beta. For the usual beta, roots take a fraction of the time of `pow`."""
    if beta == 0.75:
        root = s.rsqrt()
        return root.sqrt().mul_(root)
    return s.pow(-beta)


def _window_sum(x: Tensor, before: int, after: int, out: Tensor) -> Tensor:
    """Write into out[:, c] the sum of x[:, c - before : c + after + 1]; return `out`."""
    out.copy_(x)
    for shift in range(1, before + 1):
        out[:, shift:] += x[:, :-shift]
    for shift in range(1, after + 1):
        out[:, :-shift] += x[:, shift:]
    return out
