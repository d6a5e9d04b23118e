"""Networks of all families as `Backbone`: blocks, operators, initial weights, weight files."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from stagetransfer.config.schema import Model
from stagetransfer.models.accelerate import accelerate
from stagetransfer.models.alexnet import AlexNet, alexnet_backbone
from stagetransfer.models.backbone import Backbone, InputSpec
from stagetransfer.models.blocked_linear import BlockedLinear
from stagetransfer.models.build import build_backbone, input_spec
from stagetransfer.models.copy_blocks import copy_blocks
from stagetransfer.models.frozen_prefix import FrozenPrefix, NoSplit, fixed_modules
from stagetransfer.models.inflate import inflate
from stagetransfer.models.initialisation import initialise, scale_outputs
from stagetransfer.models.library_weights import load_library_weights
from stagetransfer.models.local_response_norm import LocalResponseNorm
from stagetransfer.models.published_weights import METADATA_KEY
from stagetransfer.models.weight_files import expand_groups, load_weights
from stagetransfer.models.winograd import WinogradConv2d

__all__ = [
    "METADATA_KEY",
    "AlexNet",
    "Backbone",
    "BlockedLinear",
    "FrozenPrefix",
    "InputSpec",
    "LocalResponseNorm",
    "NoSplit",
    "WinogradConv2d",
    "accelerate",
    "alexnet_backbone",
    "build_backbone",
    "copy_blocks",
    "expand_groups",
    "fixed_modules",
    "inflate",
    "initialise",
    "input_spec",
    "load_library_weights",
    "load_weights",
    "read_weights",
    "scale_outputs",
]


def read_weights(source: str | Path, model: Model) -> Mapping[str, Tensor]:
    """Return published or stored weights for the network of these settings, under its names.

    See `load_weights` for AlexNet and `load_library_weights` for all others.
    """
    if model.library != "alexnet":
        return load_library_weights(source, model)
    return load_weights(
        source, model.variant, groups=model.groups, mean=tuple(model.mean), std=tuple(model.std)
    )
