"""AlexNet in the four variants that published weights and papers use.

* paper: no groups; ReLU, pool, LRN. Suzuki et al. 2018 (arXiv 1810.06282) Fig. 1 and the authors'
  tools; the network of Krizhevsky et al. 2012 without its groups.
* bvlc: Caffe's `bvlc_alexnet`: two groups in conv2, conv4 and conv5; ReLU, LRN, pool.
* caffenet: Caffe's `bvlc_reference_caffenet`: the same groups; ReLU, pool, LRN.
* torchvision: 64-192-384-256-256 filters, conv1 padded by 2, no LRN, adaptive pooling, dropout
  before fc6 and fc7 (Krizhevsky 2014, arXiv 1404.5997).
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from stagetransfer.errors import UserError

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
"""The layers that have parameters (a weight and a bias each), from the input on."""

GROUPED = ("conv2", "conv4", "conv5")
"""The layers that have groups if the network has any."""

_KERNELS = {"conv1": 11, "conv2": 5, "conv3": 3, "conv4": 3, "conv5": 3}
_POOLED = ("conv1", "conv2", "conv5")
_NORMALISED = ("conv1", "conv2")
_HIDDEN = 4096


@dataclass(frozen=True)
class VariantSettings:
    """What distinguishes one variant from the others."""

    filters: tuple[int, int, int, int, int]
    groups: int
    lrn_after_pool: bool | None  # None: no LRN
    bias: float  # initial bias of conv2, conv4, conv5, fc6 and fc7 in the gaussian scheme
    torchvision: bool = False  # padded conv1, pools round down, adaptive pool, early dropout


_WIDE = (96, 256, 384, 384, 256)
VARIANTS = {
    "paper": VariantSettings(_WIDE, 1, True, 0.1),
    "bvlc": VariantSettings(_WIDE, 2, False, 0.1),
    "caffenet": VariantSettings(_WIDE, 2, True, 1.0),
    "torchvision": VariantSettings((64, 192, 384, 256, 256), 1, None, 0.1, torchvision=True),
}


class AlexNet(nn.Sequential):
    """AlexNet with Caffe's layer names: conv1, relu1, pool1, norm1, ... fc7, relu7, drop7, fc8.

    It takes images (N, 3, input_size, input_size), RGB scaled to [0, 1] and normalised per channel,
    and returns logits (N, num_classes). The parameters have PyTorch's default initial values: call
    `initialise` or `copy_blocks` next.

        network = AlexNet(7, "paper", input_size=227)

    ReLUs do not work in place, so that hooks see the convolution's own output.
    `groups` and `lrn_after_pool` override those of the variant.
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
        settings = variant_settings(variant)
        groups = settings.groups if groups is None else groups
        if lrn_after_pool is None:
            lrn_after_pool = settings.lrn_after_pool
        elif settings.lrn_after_pool is None:
            raise UserError(
                f"model.lrn_after_pool={lrn_after_pool}: variant {variant} has no LRN. Leave it "
                "unset."
            )
        if input_size < (smallest := 63 if settings.torchvision else 39):
            raise UserError(
                f"model.input_size={input_size}: too small for variant {variant}. Use {smallest} "
                "or more."
            )
        if groups < 1 or any(width % groups for width in settings.filters):
            raise UserError(
                f"model.groups={groups}: does not divide the {settings.filters} filters of variant "
                f"{variant}. Use 1 or 2."
            )
        if not 0 <= dropout < 1:
            raise UserError(
                f"model.dropout={dropout}: must be at least 0 and less than 1. Change it."
            )
        features = _feature_extractor(settings, groups, lrn_after_pool)
        side = 6 if settings.torchvision else _pool5_side(input_size)
        num_features = settings.filters[-1] * side**2
        classifier = _classifier(settings, num_features, num_classes, dropout)
        super().__init__(OrderedDict(features | classifier))
        self.variant = variant
        self.input_size = input_size


def variant_settings(variant: str) -> VariantSettings:
    """Return the settings of a variant; an unknown name is a UserError."""
    if variant not in VARIANTS:
        raise UserError(f"model.variant={variant}: unknown. Use one of {', '.join(VARIANTS)}.")
    return VARIANTS[variant]


def _pool5_side(input_size: int) -> int:
    """Return the side of pool5's square output in pixels, where pools round up as Caffe's."""
    side = (input_size - 11) // 4 + 1
    for _ in _POOLED:
        side //= 2
    return side


def _feature_extractor(
    settings: VariantSettings, groups: int, lrn_after_pool: bool | None
) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {}
    channels, first = 3, (4, 2 if settings.torchvision else 0)  # conv1's stride and padding
    for number, (layer, kernel) in enumerate(_KERNELS.items(), start=1):
        filters = settings.filters[number - 1]
        stride, padding = first if layer == "conv1" else (1, kernel // 2)
        split = groups if layer in GROUPED else 1
        modules[layer] = nn.Conv2d(channels, filters, kernel, stride, padding, groups=split)
        modules[f"relu{number}"] = nn.ReLU()
        pool: dict[str, nn.Module] = {}
        norm: dict[str, nn.Module] = {}
        if layer in _POOLED:
            pool[f"pool{number}"] = nn.MaxPool2d(3, 2, ceil_mode=not settings.torchvision)
        if layer in _NORMALISED and lrn_after_pool is not None:
            norm[f"norm{number}"] = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        modules |= pool | norm if lrn_after_pool else norm | pool
        channels = filters
    if settings.torchvision:
        modules["avgpool"] = nn.AdaptiveAvgPool2d(6)
    return modules


def _classifier(
    settings: VariantSettings, num_features: int, num_classes: int, dropout: float
) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, inputs in ((6, num_features), (7, _HIDDEN)):
        hidden = {f"fc{number}": nn.Linear(inputs, _HIDDEN), f"relu{number}": nn.ReLU()}
        drop = {f"drop{number}": nn.Dropout(dropout)}
        modules |= drop | hidden if settings.torchvision else hidden | drop
    return modules | {"fc8": nn.Linear(_HIDDEN, num_classes)}
