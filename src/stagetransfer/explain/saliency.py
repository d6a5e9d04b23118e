"""DeSaliNet, DeconvNet and SaliNet: saliency maps of the parts of an image that reach a layer.

Mahendran & Vedaldi 2016, "Salient deconvolutional networks" (ECCV), describe all three by one
reversed architecture. They differ in two layer types. x is the layer's input in the forward pass,
g the signal that comes back to the layer's output:

             ReLU                 max-pool    LRN
  DeconvNet  max(g, 0)            switches    identity        Zeiler & Fergus 2014
  SaliNet    g [x > 0]            switches    its gradient    Simonyan et al. 2014: the gradient
  DeSaliNet  max(g [x > 0], 0)    switches    identity        Springenberg et al. 2015: guided

Everything else keeps its gradient: convolutions and linear layers go back by their plain transpose,
without the bias, and the paths of a residual block add up. Dropout is off. For ReLU6, 0 < x < 6
takes the place of x > 0. DeSaliNet and DeconvNet are not defined for networks with other
activations in the place of ReLU, such as GELU in a vision transformer or Hardswish in MobileNetV3.
Gates, such as the sigmoid of squeeze and excitation, keep their gradient. With `lrn="gradient"`,
DeSaliNet is the vector-Jacobian product of guided backpropagation.

Such maps look much like the input whatever the weights are (Nie et al. 2018, Adebayo et al. 2018).
Show each beside its control with random weights; see `stagetransfer.explain.weight_randomisation`.

    maps = desalinet(backbone, images)                   # all of its feature map, as in Fig. 6
    maps = desalinet(network, images, "layer3.0", ("channel", 7))
    maps = salinet(network, images, start="class")        # of each image's highest score

The maps are computed in the type of the images and weights, float32 by default, also within
`torch.autocast` and also for runs that were trained in bfloat16.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagetransfer.errors import UserError
from stagetransfer.explain.backward_rules import Rules, layer_output
from stagetransfer.explain.backward_start import Start, is_class, start_signal
from stagetransfer.models import Backbone, LocalResponseNorm

Lrn = Literal["identity", "gradient"]


def desalinet(
    network: nn.Module,
    images: Tensor,
    layer: str | None = None,
    start: Start = "features",
    *,
    lrn: Lrn = "identity",
) -> Tensor:
    """Return DeSaliNet's saliency maps of a layer, one per image: (N, C, H, W), signed, unscaled.

    The maps of a batch do not depend on each other. The network computes in evaluation mode and
    does not change; its hooks do not run. UserError for an unusable argument, or for activations
    in the place of ReLU before the layer, even if it has ReLU too.

    Args:
        images: (N, C, H, W), normalised as for the network, in its type and on its device.
        layer: the name of a module, or a block of a `Backbone`; None: the backbone's feature map.
        start: what is taken back; see `stagetransfer.explain.backward_start.Start`.
        lrn: how local response normalisation is passed: "identity" as in the paper, or "gradient".
    """
    return _saliency("desalinet", network, images, layer, start, lrn)


def deconvnet(
    network: nn.Module, images: Tensor, layer: str | None = None, start: Start = "features"
) -> Tensor:
    """Return DeconvNet's saliency maps of a layer; arguments and errors as in `desalinet`."""
    return _saliency("deconvnet", network, images, layer, start, "identity")


def salinet(
    network: nn.Module, images: Tensor, layer: str | None = None, start: Start = "features"
) -> Tensor:
    """Return SaliNet's saliency maps, the gradient; arguments as in `desalinet`, any network."""
    return _saliency("salinet", network, images, layer, start, "gradient")


METHODS = {"desalinet": desalinet, "deconvnet": deconvnet, "salinet": salinet}
TITLES = {"desalinet": "DeSaliNet", "deconvnet": "DeconvNet", "salinet": "SaliNet"}

_BATCH = 32


@dataclass(frozen=True)
class SaliencyMethod:
    """A method of `METHODS` with the layer and the start that it is applied to."""

    name: str = "desalinet"
    layer: str | None = None
    start: Start = "features"

    def maps(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return the maps (N, C, H, W) of the images (N, C, H, W), computed in batches."""
        method, batches = METHODS[self.name], torch.split(images, _BATCH)
        return torch.cat([method(network, batch, self.layer, self.start) for batch in batches])

    def __str__(self) -> str:
        """Return the method's description for titles: `DeSaliNet of layer4 (all features)`."""
        start = "all features" if self.start == "features" else self.start
        return f"{TITLES[self.name]} of {self.layer or 'the feature map'} ({start})"


def default_method(network: Backbone, images: Tensor, layer: str | None = None) -> str:
    """Return "desalinet", or "salinet" where that is not defined; arguments as in `desalinet`."""
    rules = _SaliencyRules("desalinet", "identity")
    with torch.no_grad():
        layer_output(network, images, layer or network.feature_map, rules)
    return "salinet" if rules.other_activations else "desalinet"


def _saliency(
    method: str, network: nn.Module, images: Tensor, layer: str | None, start: Start, lrn: Lrn
) -> Tensor:
    if lrn not in get_args(Lrn):
        raise UserError(f"lrn={lrn}: unknown. Use one of {', '.join(get_args(Lrn))}.")
    if is_class(start):
        layer = None
    elif layer is None:
        if not isinstance(network, Backbone):
            raise UserError("layer: a plain network states no feature map. Name one of its layers.")
        layer = network.feature_map
    if images.dim() != 4 or not images.is_floating_point():
        raise UserError(
            f"images: their shape is {tuple(images.shape)} and their type {images.dtype}. "
            "Use (N, C, H, W) floating point."
        )
    rules, name = _SaliencyRules(method, lrn), layer or "the network"
    # Autocast would give a layer's input, weight and output different types.
    autocast_off = torch.autocast(images.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), autocast_off:
        # Autograd refuses tensors that were created in inference mode; their copies are normal.
        x = (images.clone() if images.is_inference() else images.detach()).requires_grad_()
        y = layer_output(network, x, layer, rules)
        if method != "salinet" and (others := rules.other_activations):
            net = network.net if isinstance(network, Backbone) else network
            raise UserError(
                f"{method}: {type(net).__name__} has {', '.join(others)} in the place of ReLU, up "
                f"to the output of {name}. Use salinet."
            )
        return torch.autograd.grad(y, x, start_signal(y.detach(), name, start))[0]


class _SaliencyRules(Rules):
    """The rules of a method for ReLU, ReLU6, LRN and dropout."""

    def __init__(self, method: str, lrn: Lrn) -> None:
        self._passed, self._lrn, self._has_relu = _PASSED[method], lrn, False
        super().__init__(
            {
                "relu": self._relu,
                "relu_": partial(self._relu, inplace=True),
                "relu6": partial(self._relu, top=6.0),
                "hardtanh": self._hardtanh,
                "hardtanh_": partial(self._hardtanh, inplace=True),
                "local_response_norm": self._local_response_norm,
                **dict.fromkeys(_DROPOUTS, lambda input, *_, **__: input),
            }
        )

    @property
    def other_activations(self) -> list[str]:
        """The activations in the place of ReLU that the network has called."""
        others = _ACTIVATIONS if self._has_relu else _ACTIVATIONS | _GATES
        return sorted(others & self.called)

    def _relu(self, input: Tensor, inplace: bool = False, top: float = math.inf) -> Tensor:
        self._has_relu = True
        clamp = Tensor.clamp_ if inplace else Tensor.clamp
        passed = partial(self._passed, top=top)
        return cast(Tensor, _Ruled.apply(input, lambda x: clamp(x, 0, top), passed))

    def _hardtanh(
        self, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
    ) -> Tensor:
        if min_val:
            return F.hardtanh(input, min_val, max_val, inplace)
        return self._relu(input, inplace, max_val)

    def _local_response_norm(self, input: Tensor, *settings: Any, **named: Any) -> Tensor:
        norm = LocalResponseNorm(*settings, **named)  # PyTorch's has no bfloat16 on the CPU
        if self._lrn == "gradient":
            return cast(Tensor, norm(input))
        return cast(Tensor, _Ruled.apply(input, norm, lambda signal, y: signal))


class _Ruled(torch.autograd.Function):
    """A function whose backward pass is a rule: it gets the signal and the function's output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[..., Tensor], rule: Any) -> Tensor:
        y = function(x)
        if y is x:
            ctx.mark_dirty(x)
        ctx.rule = rule
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(signal, *ctx.saved_tensors), None, None


def _where_active(signal: Tensor, y: Tensor, top: float) -> Tensor:
    """Return the signal where 0 < y < top, and 0 elsewhere, faster than `torch.where`."""
    return cast(Tensor, torch.ops.aten.hardtanh_backward(signal, y, 0, top))


_PASSED: dict[str, Callable[..., Tensor]] = {
    "deconvnet": lambda signal, y, top: signal.relu(),
    "salinet": _where_active,
    "desalinet": lambda signal, y, top: _where_active(signal, y, top).relu_(),
}
_DROPOUTS = (
    "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
    "feature_alpha_dropout", "feature_dropout",
)  # fmt: skip
_ACTIVATIONS = {
    "celu", "elu", "gelu", "hardswish", "leaky_relu", "mish", "prelu", "selu", "silu",
}  # fmt: skip
_GATES = {  # which a network with ReLU may have beside it
    "glu", "hardsigmoid", "hardtanh", "multi_head_attention_forward",
    "scaled_dot_product_attention", "sigmoid", "softmax", "softplus", "tanh",
}  # fmt: skip
