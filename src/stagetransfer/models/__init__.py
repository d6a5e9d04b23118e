"""AlexNet in its published variants: layers, operators, initial weights, weight files."""

from stagetransfer.models.alexnet import AlexNet, layer_of
from stagetransfer.models.blocked_linear import BlockedLinear
from stagetransfer.models.initialisation import initialise, scale_outputs
from stagetransfer.models.local_response_norm import LocalResponseNorm
from stagetransfer.models.weight_files import METADATA_KEY, copy_layers, expand_groups, load_weights
from stagetransfer.models.winograd import WinogradConv2d
from stagetransfer.names import LAYERS, SCHEMES, VARIANTS

__all__ = [
    "LAYERS",
    "METADATA_KEY",
    "SCHEMES",
    "VARIANTS",
    "AlexNet",
    "BlockedLinear",
    "LocalResponseNorm",
    "WinogradConv2d",
    "copy_layers",
    "expand_groups",
    "initialise",
    "layer_of",
    "load_weights",
    "scale_outputs",
]
