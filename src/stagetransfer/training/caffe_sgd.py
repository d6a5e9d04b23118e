"""SGD whose momentum includes the learning rate, as in Caffe and Tajbakhsh et al. 2016."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import SGD


class CaffeSGD(SGD):
    """`torch.optim.SGD` with the update of Tajbakhsh et al. 2016 (arXiv 1706.00712):

        V <- mu V - lr dL,   W <- W + V

    PyTorch sums gradients in a buffer B and multiplies the whole sum by the learning rate of the
    present step. Here every gradient keeps the learning rate of its own step: V = -lr B, so B is
    rescaled whenever the learning rate changes.

    The arguments are those of SGD, including `fused`. If a learning rate falls to exactly 0, its
    weights stop at once.
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
