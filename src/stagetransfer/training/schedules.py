"""A learning-rate schedule and an optimiser that PyTorch lacks."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0.1, start: float = 0.01
) -> LambdaLR:
    """Return a schedule that raises each group's learning rate linearly, then lowers it to 0.

    The peak of each group is its own learning rate; PyTorch's OneCycleLR needs the peaks as an
    argument instead. `warmup` is the share of the steps before the peak, in (0, 1). `start` is the
    first learning rate as a share of the peak, in (0, 1]. The fall is half a cosine.
    """
    peak = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < peak:
            return start + (1 - start) * step / peak
        return 0.5 * (1 + math.cos(math.pi * (step - peak) / max(1, total_steps - peak)))

    return LambdaLR(optimizer, factor)


class CaffeSGD(SGD):
    """`torch.optim.SGD` with the update of Tajbakhsh et al. 2016 (arXiv 1706.00712):

        V <- mu V - lr dL,   W <- W + V

    PyTorch sums gradients in a buffer B and multiplies the whole sum by the learning rate of the
    present step. Here every gradient keeps the learning rate of its own step: V = -lr B, so B is
    rescaled whenever the learning rate changes.

    The arguments are those of SGD, including `fused`. If a learning rate falls to exactly 0, its
    weights stop at once. It must not rise again after that: the gradients of the steps at 0 would
    count with the rate before them.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for group in self.param_groups:
            lr = group["lr"]
            before = group.setdefault("rate_of_buffer", lr)
            if lr in (0, before):
                continue
            for parameter in group["params"]:
                buffer = self.state.get(parameter, {}).get("momentum_buffer")
                if buffer is not None:
                    buffer.mul_(before / lr)
            group["rate_of_buffer"] = lr
        return super().step(closure)
