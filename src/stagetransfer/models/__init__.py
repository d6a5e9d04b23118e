"""AlexNet in its published forms: layers, starting weights, weights from files."""

from stagetransfer.models.alexnet import AlexNet, layer_of
from stagetransfer.models.blocked_linear import Linear
from stagetransfer.models.initialisation import initialise
from stagetransfer.models.local_response_norm import LocalResponseNorm
from stagetransfer.models.weights import carry, load_weights
from stagetransfer.models.winograd import Conv2d
from stagetransfer.names import LAYERS, SCHEMES, VARIANTS

__all__ = [
    "LAYERS",
    "SCHEMES",
    "VARIANTS",
    "AlexNet",
    "Conv2d",
    "Linear",
    "LocalResponseNorm",
    "carry",
    "initialise",
    "layer_of",
    "load_weights",
]
