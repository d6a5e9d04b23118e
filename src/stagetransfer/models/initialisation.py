"""Starting weights: Caffe's Gaussian tables, Xavier and MSRA, for all layers or some."""

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from stagetransfer.errors import UserError
from stagetransfer.models.alexnet import AlexNet, form_of
from stagetransfer.names import LAYERS, SCHEMES

_NARROW = ("fc6", "fc7")
_ZERO_BIAS = ("conv1", "conv3", "fc8")


@torch.no_grad()
def initialise(
    network: AlexNet,
    scheme: str = "gaussian",
    layers: Iterable[str] = LAYERS,
    generator: torch.Generator | None = None,
) -> None:
    """Makes the named layers anew, in place; the other layers are left as they are.

    * gaussian: N(0, 0.01^2), in fc6 and fc7 N(0, 0.005^2); biases of conv2, conv4, conv5, fc6, fc7
      0.1 (CaffeNet: 1), else 0. Caffe's `bvlc_alexnet` and `bvlc_reference_caffenet`
      train_val.prototxt; paper and torchvision take the table of `bvlc_alexnet`.
    * xavier: uniform within +- sqrt(3 / fan_in), biases 0: Caffe's form of Glorot & Bengio 2010.
    * kaiming: N(0, 2 / fan_in), biases 0: MSRA, He et al. 2015, eq. 10.

    A layer's values follow from `generator`'s seed and the layer's name only: not from the global
    generator, the other layers, the network's device or how far `generator` has been used. So give
    each stage a seed of its own. Without a generator one seed is drawn from PyTorch's global one.

    Raises UserError for an unknown scheme or layer.
    """
    wanted = list(layers)
    unknown = [layer for layer in wanted if layer not in LAYERS]
    if unknown:
        raise UserError(f"layers={unknown}: unknown; use some of {', '.join(LAYERS)}")
    if scheme not in SCHEMES:
        raise UserError(f"scheme={scheme}: unknown; use one of {', '.join(SCHEMES)}")
    seed = generator.initial_seed() if generator is not None else int(torch.randint(2**62, ()))
    for layer in wanted:
        module = network.get_submodule(layer)
        assert isinstance(module, nn.Conv2d | nn.Linear)
        assert module.bias is not None
        module.weight.copy_(_weight(scheme, layer, module.weight.shape, seed))
        module.bias.fill_(_bias(scheme, layer, network.variant))


def _weight(scheme: str, layer: str, shape: torch.Size, seed: int) -> Tensor:
    digest = hashlib.sha256(f"{seed}:{layer}".encode()).digest()
    own = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    weight = torch.empty(shape, dtype=torch.float32, device="cpu")
    fan_in = math.prod(shape[1:])
    match scheme:
        case "xavier":
            bound = math.sqrt(3 / fan_in)
            return weight.uniform_(-bound, bound, generator=own)
        case "kaiming":
            return weight.normal_(std=math.sqrt(2 / fan_in), generator=own)
        case _:
            return weight.normal_(std=0.005 if layer in _NARROW else 0.01, generator=own)


def _bias(scheme: str, layer: str, variant: str) -> float:
    return 0.0 if scheme != "gaussian" or layer in _ZERO_BIAS else form_of(variant).bias
