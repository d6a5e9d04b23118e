"""Networks of all families as `Backbone`: blocks, operators, initial weights, weight files."""

from stagetransfer.models.accelerate import accelerate
from stagetransfer.models.alexnet import AlexNet
from stagetransfer.models.backbone import Backbone, InputSpec
from stagetransfer.models.blocked_linear import BlockedLinear
from stagetransfer.models.build import alexnet_backbone, build_backbone
from stagetransfer.models.copy_blocks import copy_blocks
from stagetransfer.models.frozen_prefix import FrozenPrefix, NoSplit, fixed_modules
from stagetransfer.models.inflate import inflate
from stagetransfer.models.initialisation import initialise, scale_outputs
from stagetransfer.models.library_weights import read_weights
from stagetransfer.models.local_response_norm import LocalResponseNorm
from stagetransfer.models.tensor_files import METADATA_KEY
from stagetransfer.models.weight_files import load_weights
from stagetransfer.models.winograd import WinogradConv2d

__all__ = [
    "METADATA_KEY", "AlexNet", "Backbone", "BlockedLinear", "FrozenPrefix", "InputSpec",
    "LocalResponseNorm", "NoSplit", "WinogradConv2d", "accelerate", "alexnet_backbone",
    "build_backbone", "copy_blocks", "fixed_modules", "inflate", "initialise", "load_weights",
    "read_weights", "scale_outputs",
]  # fmt: skip
