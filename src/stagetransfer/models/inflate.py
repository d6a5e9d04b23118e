"""A network for images that looks at stacks of slices (experimental).

Each convolution with a kernel larger than 1 also sees the slices before and after, as in I3D
(Carreira and Zisserman 2017, arXiv 1705.07750): its weight is repeated over `depth` slices and
divided by `depth`. Everything else works slice by slice, and the logits are means over the slices.
A stack of equal slices therefore gives the logits of the image.
"""

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagetransfer.models.backbone import Backbone
from stagetransfer.models.winograd import WinogradConv2d


class InflatedConv2d(nn.Module):
    """A convolution over `depth` slices; beyond the ends of a stack, its last slice is repeated.

    It takes and returns (N * slices, C, H, W), the slices of a stack one after another. `weight` is
    (depth, filters, channels, height, width), where the middle slice is the image's own.
    """

    def __init__(self, convolution: nn.Conv2d, depth: int, stack: "Inflated") -> None:
        super().__init__()
        self.convolution = convolution
        weight = convolution.weight.detach()
        self.weight = nn.Parameter(weight.expand(depth, -1, -1, -1, -1) / depth)
        del self.convolution.weight
        self._stack = [stack]  # in a list, so that it is no module of this one

    def forward(self, x: Tensor) -> Tensor:
        slices, reach = self._stack[0].slices, len(self.weight) // 2
        numbers = torch.arange(-reach, slices + reach).clamp(0, slices - 1)
        padded = x.view(-1, slices, *x.shape[1:])[:, numbers]
        own = self.convolution
        settings: Any = (None, own.stride, own.padding, own.dilation, own.groups)
        results = (
            F.conv2d(padded[:, offset : offset + slices].flatten(0, 1), weight, *settings)
            for offset, weight in enumerate(self.weight)
        )
        result = functools.reduce(torch.add, results)
        return result if own.bias is None else result + own.bias[:, None, None]


class Inflated(nn.Module):
    """See `inflate`."""

    def __init__(self, backbone: Backbone, depth: int) -> None:
        super().__init__()
        self.slices = 1
        self.net = copy.deepcopy(backbone.net)
        for name, module in list(self.net.named_modules()):
            # Other subclasses may compute something else.
            if type(module) not in (nn.Conv2d, WinogradConv2d) or module.padding_mode != "zeros":
                continue
            if max(module.kernel_size) > 1:
                self.net.set_submodule(name, InflatedConv2d(module, depth, self))

    def forward(self, volumes: Tensor) -> Tensor:
        """Return logits (N, classes) of stacks of slices (N, 3, slices, H, W)."""
        self.slices = volumes.shape[2]
        logits: Tensor = self.net(volumes.transpose(1, 2).flatten(0, 1))
        return logits.view(-1, self.slices, logits.shape[1]).mean(1)


def inflate(backbone: Backbone, depth: int = 3) -> Inflated:
    """Return a copy of the network that takes stacks of slices (N, 3, slices, H, W).

    `depth` is how many slices a convolution sees, an odd number.
    """
    if depth < 1 or depth % 2 == 0:
        raise ValueError(f"depth={depth}: it must be an odd number")
    return Inflated(backbone, depth)
