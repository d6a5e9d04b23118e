"""A large linear layer whose weight is split into blocks, one or two per processor core.

AlexNet's fc6 and fc7 multiply few rows by a large matrix. As a batch of smaller products, which the
cores share, this takes less time than as one product (measured in benchmarks/RESULTS.md).
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

_LARGE = 2**20  # weights


class BlockedLinear(nn.Linear):
    """`torch.nn.Linear` with the same result, computed in blocks where that is faster.

    This is the case on the CPU, in float32 without autocast, with two threads or more, for input
    (N, in_features) and a large weight that divides into as many blocks as the next power of two
    above the number of threads. In all other cases PyTorch's own product is used.

        fc6 = BlockedLinear(9216, 4096)
    """

    def forward(self, input: Tensor) -> Tensor:
        blocks = self._num_blocks(input)
        if blocks < 2:
            return super().forward(input)
        return cast(Tensor, _Blocked.apply(input, self.weight, self.bias, blocks))

    def _num_blocks(self, x: Tensor) -> int:
        threads = torch.get_num_threads()
        number = 2 ** threads.bit_length() if threads > 1 else 1
        faster = (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and x.dim() == 2
            and self.weight.numel() >= _LARGE
            and self.weight.is_contiguous()
            and self.in_features % number == self.out_features % number == 0
        )
        return number if faster else 1


class _Blocked(torch.autograd.Function):
    """Splits the weight by outputs in the forward pass and by inputs in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, blocks: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.blocks = blocks
        parts = weight.view(blocks, -1, weight.shape[1])
        product = torch.bmm(x.expand(blocks, -1, -1), parts.transpose(1, 2)).transpose(0, 1)
        y = x.new_empty(len(x), len(weight))
        torch.add(product, 0 if bias is None else bias.view(blocks, -1), out=y.view(product.shape))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_x = None
        if needs_x:
            parts = weight.view(len(weight), ctx.blocks, -1).transpose(0, 1)
            product = torch.bmm(grad.expand(ctx.blocks, -1, -1), parts)
            grad_x = product.transpose(0, 1).reshape(x.shape)
        grad_weight = grad.t() @ x if needs_weight else None
        return grad_x, grad_weight, grad.sum(0) if needs_bias else None, None
