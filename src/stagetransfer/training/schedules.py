"""Learning-rate schedules that PyTorch lacks for groups with different learning rates."""

import math

from torch.optim import Optimizer
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
