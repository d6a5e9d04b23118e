"""A large linear layer on several cores, each with a part of the weight of its own.

AlexNet's fc6 and fc7 multiply few rows by a large matrix. Cut into pieces it is a batch of products
that the cores share out, in less time than the one product (measured on two cores:
benchmarks/RESULTS.md).
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

_LARGE = 2**20  # weights


class BlockedLinear(nn.Linear):
    """`torch.nn.Linear`, in pieces where that is faster: the same sums.

    That is on the CPU, in float32 without autocast, with two threads or more, for (N, in_features)
    and a large weight that divides into the next power of two above the number of threads; all
    else is PyTorch's own.

        fc6 = BlockedLinear(9216, 4096)
    """

    def forward(self, input: Tensor) -> Tensor:
        pieces = self._pieces(input)
        if pieces < 2:
            return super().forward(input)
        return cast(Tensor, _Pieces.apply(input, self.weight, self.bias, pieces))

    def _pieces(self, x: Tensor) -> int:
        threads = torch.get_num_threads()
        number = 2 ** threads.bit_length() if threads > 1 else 1
        if (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and x.dim() == 2
            and self.weight.numel() >= _LARGE
            and self.weight.is_contiguous()
            and self.in_features % number == self.out_features % number == 0
        ):
            return number
        return 1


class _Pieces(torch.autograd.Function):
    """Cuts the weight along its outputs forward, along its inputs backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pieces: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pieces = pieces
        parts = weight.view(pieces, -1, weight.shape[1])
        product = torch.bmm(x.expand(pieces, -1, -1), parts.transpose(1, 2)).transpose(0, 1)
        y = x.new_empty(len(x), len(weight))
        torch.add(product, 0 if bias is None else bias.view(pieces, -1), out=y.view(product.shape))
        return y

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        grad_x = None
        if of_x:
            parts = weight.view(len(weight), ctx.pieces, -1).transpose(0, 1)
            product = torch.bmm(grad.expand(ctx.pieces, -1, -1), parts)
            grad_x = product.transpose(0, 1).reshape(x.shape)
        return (
            grad_x,
            grad.t() @ x if of_weight else None,
            grad.sum(0) if of_bias else None,
            None,
        )
