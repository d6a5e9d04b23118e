"""AlexNet in its published forms: layers, starting weights, weights from files."""

from stagetransfer.network.alexnet import LAYERS, VARIANTS, AlexNet, layer_of
from stagetransfer.network.convolution import Conv2d
from stagetransfer.network.initialisation import SCHEMES, initialise
from stagetransfer.network.linear import Linear
from stagetransfer.network.lrn import LocalResponseNorm
from stagetransfer.network.weights import carry, load_weights

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
