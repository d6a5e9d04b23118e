"""DeSaliNet, DeconvNet and SaliNet: what of the input reaches a layer.

Mahendran & Vedaldi 2016, "Salient deconvolutional networks" (ECCV), whose one architecture for
the way back has these three as cases. x is what entered a layer, g what comes back to its output.

             ReLU                 max-pool    LRN
  DeconvNet  max(g, 0)            switches    identity        Zeiler & Fergus 2014
  SaliNet    g [x > 0]            switches    its gradient    Simonyan et al. 2014: the gradient
  DeSaliNet  max(g [x > 0], 0)    switches    identity        Springenberg et al. 2015: guided

Convolution and linear layers go back by their plain transpose, without the bias; dropout is off.
So with LRN by its gradient DeSaliNet is the vector-Jacobian product of guided backpropagation.
Such pictures look much like the input whatever the weights are (Nie et al. 2018, Adebayo et al.
2018): show each beside its control, see `stagetransfer.explain.randomisation`.

    picture = desalinet(network, images)                                   # Fig. 6: all of pool5
    picture = desalinet(network, images, "conv3", ("channel", 7))
    picture = salinet(network, images, seed="class")                       # of the highest score

All three take images (N, C, H, W) as the network does, normalised as for training, on its device
and in its dtype, and return a tensor of that shape and dtype, signed and unscaled: one picture for
each image, independent of the others. `network` is an nn.Sequential, nested as it may be, of
Conv2d, ReLU, MaxPool2d, AdaptiveAvgPool2d, LocalResponseNorm, Dropout, Flatten, Linear; `layer`
the name of one of its modules ("features.pool5" in a nested one), `seed` see
`stagetransfer.explain.feature_seed.Seed`. The network is left as it is: its modules are read, never
called. They raise UserError for an unknown layer, a module on the way that is none of those, a
seed that is not within the layer's output, images of another form.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagetransfer.errors import UserError
from stagetransfer.explain.feature_seed import Seed, is_class, seeded
from stagetransfer.explain.transposed_layers import COMMON, Back, Rule, Rules, reverse
from stagetransfer.models import LocalResponseNorm

Lrn = Literal["identity", "gradient"]


def desalinet(
    network: nn.Module,
    images: Tensor,
    layer: str = "pool5",
    seed: Seed = "features",
    *,
    lrn: Lrn = "identity",
) -> Tensor:
    """DeSaliNet's picture (N, C, H, W) of a layer; see the module for all arguments.

    `lrn`: "identity" as in the paper, or "gradient", its variant.
    """
    return _picture(network, images, layer, seed, _relu_desalinet, lrn)


def deconvnet(
    network: nn.Module, images: Tensor, layer: str = "pool5", seed: Seed = "features"
) -> Tensor:
    """DeconvNet's picture (N, C, H, W) of a layer; see the module for all arguments."""
    return _picture(network, images, layer, seed, _relu_deconvnet, "identity")


def salinet(
    network: nn.Module, images: Tensor, layer: str = "pool5", seed: Seed = "features"
) -> Tensor:
    """SaliNet's picture (N, C, H, W) of a layer, the gradient; see the module for all arguments."""
    return _picture(network, images, layer, seed, _relu_salinet, "gradient")


def _picture(
    network: nn.Module, images: Tensor, layer: str, seed: Seed, relu: Rule, lrn: Lrn
) -> Tensor:
    if lrn not in get_args(Lrn):
        raise UserError(f"lrn={lrn}: unknown; use one of {', '.join(get_args(Lrn))}")
    normalisation = _lrn_identity if lrn == "identity" else _lrn_gradient
    rules: Rules = {
        **COMMON,
        nn.ReLU.forward: relu,
        nn.LocalResponseNorm.forward: normalisation,
        LocalResponseNorm.forward: normalisation,
    }
    start = None if is_class(seed) else layer
    return reverse(network, images, start, lambda y, name: seeded(y, name, seed), rules)


def _relu_deconvnet(module: nn.ReLU, x: Tensor) -> tuple[Tensor, Back]:
    return F.relu(x), lambda g: F.relu(g)


def _relu_salinet(module: nn.ReLU, x: Tensor) -> tuple[Tensor, Back]:
    return F.relu(x), lambda g: _where_positive(g, x)


def _relu_desalinet(module: nn.ReLU, x: Tensor) -> tuple[Tensor, Back]:
    return F.relu(x), lambda g: _where_positive(F.relu(g), x)


def _where_positive(g: Tensor, x: Tensor) -> Tensor:
    result: Tensor = torch.ops.aten.threshold_backward(g, x, 0)
    return result


def _lrn_identity(module: nn.LocalResponseNorm, x: Tensor) -> tuple[Tensor, Back]:
    return _alike(module)(x), lambda g: g


def _lrn_gradient(module: nn.LocalResponseNorm, x: Tensor) -> tuple[Tensor, Back]:
    with torch.inference_mode(False), torch.enable_grad():
        # A clone, because what was made in inference mode cannot be differentiated.
        leaf = x.detach().clone().requires_grad_()
        y = _alike(module)(leaf)

    def back(g: Tensor) -> Tensor:
        with torch.inference_mode(False):
            return torch.autograd.grad(y, leaf, g.clone())[0]

    return y.detach(), back


def _alike(module: nn.LocalResponseNorm) -> LocalResponseNorm:
    """Our own LRN, free of hooks; PyTorch's has no bfloat16 on the CPU."""
    return LocalResponseNorm(module.size, module.alpha, module.beta, module.k)
