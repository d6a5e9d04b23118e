"""Initial weights: Caffe's Gaussian tables, Xavier, Kaiming and LSUV, for all layers or some."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from stagetransfer.models.alexnet import VARIANTS, AlexNet
from stagetransfer.models.backbone import Backbone, evaluation_mode
from stagetransfer.names import SCHEMES


@torch.no_grad()
def initialise(network: nn.Module, layers: Iterable[str], scheme: str, seed: int) -> None:
    """Initialise the named layers of an `AlexNet` in place, by one of `names.SCHEMES`.

    * gaussian: N(0, 0.01^2), in fc6 and fc7 N(0, 0.005^2); biases of conv2, conv4, conv5, fc6 and
      fc7 0.1 (CaffeNet: 1), others 0. Source: train_val.prototxt of Caffe's `bvlc_alexnet` and
      `bvlc_reference_caffenet`; paper and torchvision use the values of `bvlc_alexnet`.
    * xavier: uniform within +- sqrt(3 / fan_in), biases 0. Caffe's form of Glorot & Bengio 2010.
    * kaiming: N(0, 2 / fan_in), biases 0. He et al. 2015, eq. 10 (also called MSRA).
    * lsuv: the values of kaiming, to be followed by `scale_outputs`, which needs images.

    The values of a layer depend only on the seed and the layer's name. They do not depend on the
    other layers or the device, so each stage needs its own seed. ValueError for another scheme.
    """
    assert isinstance(network, AlexNet)
    if scheme not in SCHEMES:
        raise ValueError(f"scheme={scheme!r}: it must be one of {', '.join(SCHEMES)}")
    bias = VARIANTS[network.variant].bias
    for layer in layers:
        module = network.get_submodule(layer)
        assert isinstance(module, nn.Conv2d | nn.Linear)
        assert module.bias is not None
        module.weight.copy_(_weight(scheme, layer, module.weight.shape, seed))
        has_bias = scheme == "gaussian" and layer not in ("conv1", "conv3", "fc8")
        module.bias.fill_(bias if has_bias else 0.0)


@torch.no_grad()
def scale_outputs(backbone: Backbone, images: Tensor, blocks: Iterable[str] | None = None) -> None:
    """Scale the weights of new blocks in place, so that no layer's output is large or small.

    In AlexNet, the standard deviation of each layer's output on `images` (B, 3, S, S) becomes 1,
    that of the head 0.1. The logits are then nearly equal, and the first loss is close to ln K for
    K classes. After Mishkin and Matas 2016 (LSUV, arXiv 1511.06422), who start from orthonormal
    weights and do not treat the last layer differently. Other networks have initial values of
    their own, mostly with normalisations, so only their head is scaled. The network is run once,
    without dropout; a layer is scaled before its output reaches the next. Biases become 0.
    """
    chosen = list(backbone.blocks if blocks is None else blocks)
    head = backbone.blocks[-1]
    layers = {name: name for name in chosen} if isinstance(backbone.net, AlexNet) else {}
    if head in chosen:
        layers[head] = backbone.head
    with ExitStack() as stack:
        # The statistics of a single image may have no spread.
        as_trained = _without_dropout if len(images) > 1 else evaluation_mode
        stack.enter_context(as_trained(backbone))
        for block, layer in layers.items():
            module = backbone.net.get_submodule(layer)
            if isinstance(module.bias, Tensor):
                module.bias.zero_()
            goal = 0.1 if block == head else 1.0
            stack.enter_context(module.register_forward_hook(partial(_scale, goal=goal)))
        backbone(images)


@contextmanager
def _without_dropout(network: nn.Module) -> Iterator[None]:
    """Turn off dropout within the block. Normalisation keeps its mode, and then its buffers."""
    normalise = [one for one in network.modules() if isinstance(one, _NormBase) and one.training]
    before = [(buffer, buffer.clone()) for one in normalise for buffer in one.buffers()]
    try:
        with evaluation_mode(network):
            for module in normalise:
                module.training = True
            yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _scale(module: nn.Module, inputs: tuple[Tensor], output: Tensor, *, goal: float) -> Tensor:
    assert isinstance(module.weight, Tensor)
    spread = float(output.std())
    factor = goal / spread if spread > 0 else 1.0
    module.weight.mul_(factor)
    return output * factor


def _weight(scheme: str, layer: str, shape: torch.Size, seed: int) -> Tensor:
    digest = hashlib.sha256(f"{seed}:{layer}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    weight = torch.empty(shape, dtype=torch.float32, device="cpu")
    fan_in = math.prod(shape[1:])
    if scheme == "xavier":
        bound = math.sqrt(3 / fan_in)
        return weight.uniform_(-bound, bound, generator=generator)
    gaussian = 0.005 if layer in ("fc6", "fc7") else 0.01
    std = math.sqrt(2 / fan_in) if scheme in ("kaiming", "lsuv") else gaussian
    return weight.normal_(std=std, generator=generator)
