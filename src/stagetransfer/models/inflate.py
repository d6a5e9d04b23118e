"""A network for images that looks at stacks of slices (experimental).

Each convolution with a kernel larger than 1 also sees the slices before and after, as in I3D
(Carreira and Zisserman 2017, arXiv 1705.07750): its weight is repeated over `depth` slices and
divided by `depth`. Everything else works slice by slice, and the logits are means over the slices.
A stack of equal slices therefore gives the logits of the image.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagetransfer.models.backbone import Backbone


class InflatedConv2d(nn.Module):
    """A convolution over `depth` slices; beyond the ends of a stack, its last slice is repeated.

    It takes and returns (N * slices, C, H, W), the slices of a stack one after another. `weight` is
    (depth, filters, channels, height, width), where the middle slice is the image's own.
    """

    def __init__(self, convolution: nn.Conv2d, depth: int, stack: "Inflated") -> None:
        super().__init__()
        self.convolution = copy.deepcopy(convolution)
        self.weight = nn.Parameter(
            convolution.weight.detach().expand(depth, -1, -1, -1, -1) / depth
        )
        del self.convolution.weight
        self._stack = [stack]  # in a list, so that it is no module of this one

    def forward(self, x: Tensor) -> Tensor:
        slices, reach = self._stack[0].slices, len(self.weight) // 2
        stacks = x.view(-1, slices, *x.shape[1:])
        first, last = stacks[:, :1].expand(-1, reach, -1, -1, -1), stacks[:, -1:]
        padded = torch.cat((first, stacks, last.expand(-1, reach, -1, -1, -1)), 1)
        result: Tensor | None = None
        for offset, weight in enumerate(self.weight):
            one = self._convolve(padded[:, offset : offset + slices].flatten(0, 1), weight)
            result = one if result is None else result + one
        assert result is not None
        bias = self.convolution.bias
        return result if bias is None else result + bias[:, None, None]

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        own = self.convolution
        padding = own.padding if isinstance(own.padding, str) else tuple(own.padding)
        return F.conv2d(x, weight, None, own.stride, padding, own.dilation, own.groups)


class Inflated(nn.Module):
    """See `inflate`."""

    def __init__(self, backbone: Backbone, depth: int) -> None:
        super().__init__()
        self.slices = 1
        self.net = copy.deepcopy(backbone.net)
        for name, module in list(self.net.named_modules()):
            plain = isinstance(module, nn.Conv2d) and module.padding_mode == "zeros"
            if plain and max(module.kernel_size) > 1 and _is_plain(module):
                self.net.set_submodule(name, InflatedConv2d(module, depth, self))

    def forward(self, volumes: Tensor) -> Tensor:
        """Return logits (N, classes) of stacks of slices (N, 3, slices, H, W)."""
        self.slices = volumes.shape[2]
        logits: Tensor = self.net(volumes.transpose(1, 2).flatten(0, 1))
        return logits.view(-1, self.slices, logits.shape[1]).mean(1)


def _is_plain(convolution: nn.Conv2d) -> bool:
    """Whether a subclass computes what `torch.nn.Conv2d` does."""
    from stagetransfer.models.winograd import WinogradConv2d

    return type(convolution) in (nn.Conv2d, WinogradConv2d)


def inflate(backbone: Backbone, depth: int = 3) -> Inflated:
    """Return a copy of the network that takes stacks of slices (N, 3, slices, H, W).

    Args:
        depth: how many slices a convolution sees; an odd number.
    """
    if depth < 1 or depth % 2 == 0:
        raise ValueError(f"depth={depth}: it must be an odd number")
    return Inflated(backbone, depth)
