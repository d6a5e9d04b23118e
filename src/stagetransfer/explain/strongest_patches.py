"""The image patches that excite a layer's channels most, with the saliency map of each."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagetransfer.errors import UserError
from stagetransfer.explain.backward_rules import Rules, layer_output
from stagetransfer.explain.saliency import METHODS, default_method
from stagetransfer.models import Backbone


@dataclass(frozen=True)
class ReceptiveField:
    """The input pixels that influence one position of a layer, the same in both directions.

    Position p depends on the pixels [start + p * jump, start + p * jump + size). Pixels outside
    the image are padding. See Dumoulin & Visin 2016 (arXiv 1603.07285).
    """

    size: int
    jump: int
    start: int

    def at(self, position: int) -> slice:
        """Return the pixels that influence this position, padding included."""
        first = self.start + position * self.jump
        return slice(first, first + self.size)


@dataclass(frozen=True)
class StrongestPatches:
    """The P strongest patches of each of K channels, in descending order."""

    channels: list[int]  # K numbers of the channels
    inputs: Tensor  # (K, P, C, size, size) patches of the network's input; 0 outside the image
    maps: Tensor  # as inputs; maps of the single neuron that the patch belongs to
    method: str  # of the maps, see `default_method`


def receptive_field(network: Backbone, layer: str) -> ReceptiveField:
    """Return the receptive field of a layer with the output (N, C, H, W).

    Found by NaN, which a gradient passes on whatever the weights are. The images grow, because a
    field may be larger than the network's input; only their height does, because a field has the
    same size in both directions. UserError if there is no such layer, or it depends on the whole
    image, as after attention or a mean over positions.
    """
    whole = copy.deepcopy(network).cpu().float()
    for more_rows in _MORE_ROWS:
        try:
            field = _measured(whole, layer, more_rows)
            if field and field == _measured(whole, layer, more_rows + _MORE_ROWS[1]):
                return field
        except UserError:
            raise
        except Exception:  # networks refuse images of another size in as many ways as they exist
            if more_rows == 0:
                raise
            break
    raise UserError(
        f"layer={layer}: no window of fixed size in the image decides its values, as after "
        "attention or a mean over the image, so there are no patches. Use an earlier layer."
    )


# Multiples of the usual products of strides, so that padding that depends on the size stays.
_MORE_ROWS = (0, 64, 256, 1024, 4096)


@torch.inference_mode(False)
@torch.enable_grad()
def _measured(network: Backbone, layer: str, more_rows: int) -> ReceptiveField | None:
    """Measure the field on an image with more rows; None if it meets the image's border."""
    height, width = network.input.size + more_rows, network.input.size
    images = torch.zeros(1, 3, height, width, requires_grad=True)
    y = layer_output(network, images, layer, Rules(_ALL_POSITIONS))
    if y.dim() != 4:
        raise UserError(
            f"layer={layer}: its output has no positions (its shape is {tuple(y.shape[1:])} per "
            "image), so there are no patches. Use an earlier layer."
        )
    middle = y.shape[2] // 2
    found = []
    for position in (middle - 1, middle):
        if position < 0:
            return None
        signal = torch.zeros_like(y)
        signal[:, :, position] = torch.nan
        (gradient,) = torch.autograd.grad(y, images, signal, retain_graph=True)
        rows = gradient.isnan().any(3).any(1)[0].nonzero().flatten().tolist()
        if not rows or rows[0] == 0 or rows[-1] == height - 1:
            return None
        found.append((rows[0], rows[-1] - rows[0] + 1))
    (before, other_size), (first, size) = found
    jump = first - before
    return ReceptiveField(size, jump, first - middle * jump) if size == other_size else None


def _mean_pool(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: int = 1,
    ceil_mode: bool = False, **named: Any,
) -> Tensor:  # fmt: skip
    """Return means in the place of maxima, whose gradient meets one value of a window alone."""
    sides = [(side - 1) * dilation + 1 for side in nn.modules.utils._pair(kernel_size)]
    return F.avg_pool2d(input, sides, stride or kernel_size, padding, ceil_mode)


def _unchanged(input: Tensor, *settings: Any, **named: Any) -> Tensor:
    return input


_ELEMENTWISE = ("relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "clamp", "clamp_min")
# Functions whose gradient is 0 at some positions; NaN would not pass there.
_ALL_POSITIONS: dict[str, Callable[..., Tensor]] = {
    "max_pool2d": _mean_pool,
    "adaptive_max_pool2d": lambda input, size, *_, **__: F.adaptive_avg_pool2d(input, size),
    **dict.fromkeys([*_ELEMENTWISE, *(f"{name}_" for name in _ELEMENTWISE)], _unchanged),
    "local_response_norm": _unchanged,
}


@torch.no_grad()
def strongest_patches(
    network: Backbone,
    images: Tensor,
    layer: str,
    *,
    channels: int = 5,
    patches: int = 8,
    batch_size: int = 64,
) -> StrongestPatches:
    """Return the patches, each of another image, that excite a layer's strongest channels most.

    Channels are ranked by the mean of their `patches` largest activations. Fewer channels or
    patches are returned where the layer has fewer, or where there are fewer images. `images` are
    (N, C, H, W), normalised as for the network, on its device.
    """
    field = receptive_field(network, layer)
    method = default_method(network, images[:1], layer)
    maxima, positions = [], []
    for batch in torch.split(images, batch_size):
        activations = layer_output(network, batch, layer, Rules({}))
        width = activations.shape[-1]
        maximum, position = activations.flatten(2).max(2)
        maxima.append(maximum)
        positions.append(position)
    patches = min(patches, len(images))
    top, image = torch.cat(maxima).topk(patches, dim=0)  # (P, channels of the layer)
    chosen = top.mean(0).topk(min(channels, top.shape[1])).indices.tolist()
    position = torch.cat(positions)
    windows = []
    for channel in chosen:
        for number in image[:, channel].tolist():
            one, (y, x) = images[number : number + 1], divmod(int(position[number, channel]), width)
            saliency = METHODS[method](network, one, layer, ("neuron", (channel, y, x)))
            windows.append(_window(torch.cat([one, saliency]), field.at(y), field.at(x)))
    stacked = torch.stack(windows)
    inputs, maps = stacked.view(len(chosen), patches, *stacked.shape[1:]).unbind(2)
    return StrongestPatches(chosen, inputs, maps, method)


def _window(images: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return a window of (N, C, H, W), with zeros where it lies outside the images."""
    height, width = images.shape[2:]
    # Negative padding crops.
    margins = (-columns.start, columns.stop - width, -rows.start, rows.stop - height)
    return F.pad(images, margins)
