"""Momentum as Caffe and Tajbakhsh 2016 have it: the rate inside the velocity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import SGD


class CaffeSGD(SGD):
    """`torch.optim.SGD` with the update of Tajbakhsh et al. 2016 (arXiv 1706.00712):

        V <- mu V - rate dL,   W <- W + V

    torch keeps a sum of gradients that each step multiplies by the rate of that step, so that a
    change of the rate changes the weight of all gradients before. Here they keep the rate they
    came with: torch's buffer B stands for V = -rate B, and is rescaled when the rate changes.

    Takes what SGD takes, fused too. A rate that falls to exactly 0 stops its weights at once.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update."""
        for group in self.param_groups:
            rate = group["lr"]
            before = group.setdefault("rate_of_buffer", rate)
            if rate in (0, before):
                continue
            for parameter in group["params"]:
                buffer = self.state.get(parameter, {}).get("momentum_buffer")
                if buffer is not None:
                    buffer.mul_(before / rate)
            group["rate_of_buffer"] = rate
        return super().step(closure)
