"""AlexNet in the four forms that published weights and papers use.

* paper: ungrouped, ReLU - pool - LRN. Suzuki et al. 2018 (arXiv 1810.06282) Fig. 1 and the authors'
  tools; without the groups of Krizhevsky et al. 2012.
* bvlc: Caffe's `bvlc_alexnet`: two groups in conv2, conv4 and conv5; ReLU - LRN - pool.
* caffenet: Caffe's `bvlc_reference_caffenet`: the same groups; ReLU - pool - LRN.
* torchvision: 64-192-384-256-256 filters, conv1 padded by 2, no LRN, an adaptive pool, dropout
  before fc6 and fc7 (Krizhevsky 2014, arXiv 1404.5997).
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from typing import overload

from torch import nn

from stagetransfer.errors import UserError
from stagetransfer.models.blocked_linear import Linear
from stagetransfer.models.local_response_norm import LocalResponseNorm
from stagetransfer.models.winograd import Conv2d
from stagetransfer.names import LAYERS

GROUPED = ("conv2", "conv4", "conv5")
"""The layers that `groups` splits."""

_KERNELS = {"conv1": 11, "conv2": 5, "conv3": 3, "conv4": 3, "conv5": 3}
_POOLED = ("conv1", "conv2", "conv5")
_NORMALISED = ("conv1", "conv2")
_HIDDEN = 4096


@dataclass(frozen=True)
class Form:
    """What tells one variant from another."""

    filters: tuple[int, int, int, int, int]
    groups: int
    lrn_after_pool: bool | None  # None: no LRN at all
    bias: float  # of conv2, conv4, conv5, fc6 and fc7 at the Gaussian start
    torchvision: bool = False  # conv1 padded, floor pools, adaptive pool, dropout before fc6, fc7


_WIDE = (96, 256, 384, 384, 256)
FORMS = {
    "paper": Form(_WIDE, 1, True, 0.1),
    "bvlc": Form(_WIDE, 2, False, 0.1),
    "caffenet": Form(_WIDE, 2, True, 1.0),
    "torchvision": Form((64, 192, 384, 256, 256), 1, None, 0.1, torchvision=True),
}


class AlexNet(nn.Sequential):
    """AlexNet with Caffe's layer names: conv1, relu1, pool1, norm1, ... fc7, relu7, drop7, fc8.

    Takes (N, 3, input_size, input_size) floats, RGB scaled to [0, 1] and normalised by channel, and
    returns (N, num_classes) logits. Parameters are named `conv1.weight` and so on. They start at
    PyTorch's own default: call `initialise` or `carry` next.

    `groups` and `lrn_after_pool` override the variant's own. Raises UserError for an unknown
    variant, a size too small for the last pool, groups that do not divide the filters.

    ReLUs do not work in place: hooks on a convolution (DeSaliNet, feature extraction) must see its
    own output, and backward hooks refuse a module whose output is changed in place.

        network = AlexNet(7, "paper", input_size=227)
    """

    def __init__(
        self,
        num_classes: int,
        variant: str = "paper",
        *,
        groups: int | None = None,
        lrn_after_pool: bool | None = None,
        input_size: int = 227,
        dropout: float = 0.5,
    ) -> None:
        form = form_of(variant)
        groups = form.groups if groups is None else groups
        if form.lrn_after_pool is None and lrn_after_pool is not None:
            raise UserError(
                f"lrn_after_pool={lrn_after_pool}: variant {variant} has no LRN; leave it unset"
            )
        after_pool = form.lrn_after_pool if lrn_after_pool is None else lrn_after_pool
        _check(form, variant, num_classes, groups, input_size, dropout)
        side = 6 if form.torchvision else pool5_side(variant, input_size)
        super().__init__(
            OrderedDict(
                _extractor(form, groups, after_pool)
                | _classifier(form, form.filters[-1] * side**2, num_classes, dropout)
            )
        )
        self.variant = variant
        self.groups = groups
        self.input_size = input_size
        self.num_classes = num_classes

    @overload
    def __getitem__(self, index: slice, /) -> nn.Sequential: ...
    @overload
    def __getitem__(self, index: int, /) -> nn.Module: ...
    def __getitem__(self, index: slice | int, /) -> nn.Sequential | nn.Module:
        """A slice is a plain `nn.Sequential` of the same modules under the same names."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self.named_children())[index]))
        return super().__getitem__(index)


def form_of(variant: str) -> Form:
    """The form of a variant; UserError if there is none of that name."""
    if variant not in FORMS:
        raise UserError(f"variant={variant}: unknown; use one of {', '.join(FORMS)}")
    return FORMS[variant]


def layer_of(parameter_name: str) -> str:
    """The layer a parameter belongs to: "fc6" for "fc6.weight" or "network.fc6.weight"."""
    for part in parameter_name.split("."):
        if part in LAYERS:
            return part
    raise UserError(f"{parameter_name}: in none of the layers {', '.join(LAYERS)}")


def pool5_side(variant: str, input_size: int) -> int:
    """Side of pool5's square output in pixels; less than 1 where the input is too small.

    Caffe's pools round up: 227 gives 55-27-13-6 either way, 224 gives 54-27-13-6 only so.
    """
    torchvision = form_of(variant).torchvision
    side = (input_size + (4 if torchvision else 0) - 11) // 4 + 1
    for _ in _POOLED:
        side = (side - 1) // 2 if torchvision else side // 2
    return side


def _check(
    form: Form, variant: str, num_classes: int, groups: int, input_size: int, dropout: float
) -> None:
    if num_classes < 1:
        raise UserError(f"num_classes={num_classes}: needs 1 or more")
    if pool5_side(variant, input_size) < 1:
        smallest = next(size for size in count(1) if pool5_side(variant, size) >= 1)
        raise UserError(
            f"input_size={input_size}: too small for variant {variant}; use {smallest} or more"
        )
    if groups < 1 or any(width % groups for width in form.filters):
        raise UserError(
            f"groups={groups}: does not divide variant {variant}'s filters "
            f"{form.filters}; use 1 or 2"
        )
    if not 0 <= dropout < 1:
        raise UserError(f"dropout={dropout}: needs a probability of 0 or more and less than 1")


def _extractor(form: Form, groups: int, lrn_after_pool: bool | None) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {}
    channels = 3
    for number, (layer, filters) in enumerate(zip(_KERNELS, form.filters, strict=True), start=1):
        first = layer == "conv1"
        kernel = _KERNELS[layer]
        modules[layer] = Conv2d(
            channels,
            filters,
            kernel,
            stride=4 if first else 1,
            padding=(2 if form.torchvision else 0) if first else kernel // 2,
            groups=groups if layer in GROUPED else 1,
        )
        modules[f"relu{number}"] = nn.ReLU()
        tail: dict[str, nn.Module] = {}
        if layer in _POOLED:
            tail[f"pool{number}"] = nn.MaxPool2d(3, 2, ceil_mode=not form.torchvision)
        if layer in _NORMALISED and lrn_after_pool is not None:
            norm = {f"norm{number}": LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)}
            tail = tail | norm if lrn_after_pool else norm | tail
        modules |= tail
        channels = filters
    if form.torchvision:
        modules["avgpool"] = nn.AdaptiveAvgPool2d(6)
    return modules


def _classifier(form: Form, features: int, num_classes: int, p: float) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, inputs in ((6, features), (7, _HIDDEN)):
        hidden = {f"fc{number}": Linear(inputs, _HIDDEN), f"relu{number}": nn.ReLU()}
        drop = {f"drop{number}": nn.Dropout(p)}
        modules |= drop | hidden if form.torchvision else hidden | drop
    return modules | {"fc8": Linear(_HIDDEN, num_classes)}
