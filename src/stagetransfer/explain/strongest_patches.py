"""Which patches of the images excite a layer's channels most, and what of them reaches it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stagetransfer.errors import UserError
from stagetransfer.explain.desalinet import desalinet


@dataclass(frozen=True)
class ReceptiveField:
    """What one value of a layer sees of the input, in pixels, alike in both directions.

    Position p of the layer sees [start + p jump, start + p jump + size); beyond the image lies the
    padding. Sums over all layers on the way (Dumoulin & Visin 2016, arXiv 1603.07285).
    """

    size: int
    jump: int
    start: int

    def at(self, position: int) -> slice:
        """The pixels that this position sees, the padding among them."""
        first = self.start + position * self.jump
        return slice(first, first + self.size)


@dataclass(frozen=True)
class Patches:
    """The strongest patches of K channels, P of each, the strongest first.

    channels: (K,). images, rows, columns: (K, P), the image and the place in the layer of each.
    strength: (K, P) the activations. inputs, pictures: (K, P, C, size, size), the patch and
    DeSaliNet's picture of that one neuron with value 1; 0 beyond the image.
    """

    channels: Tensor
    images: Tensor
    rows: Tensor
    columns: Tensor
    strength: Tensor
    inputs: Tensor
    pictures: Tensor


def receptive_field(network: nn.Sequential, layer: str) -> ReceptiveField:
    """That of a layer of convolutions and pools with square kernels.

    Raises UserError if there is no such layer, or a layer on the way is of no fixed size (linear,
    adaptive pool).
    """
    size, jump, start = 1, 1, 0
    for name, module in network.named_children():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding, dilation = (
                value[0] if isinstance(value, tuple) else int(value)
                for value in (module.kernel_size, module.stride, module.padding, module.dilation)
            )
            size += (kernel - 1) * dilation * jump
            start -= int(padding) * jump
            jump *= stride
        elif isinstance(module, nn.Linear | nn.Flatten | nn.AdaptiveAvgPool2d):
            break
        if name == layer:
            return ReceptiveField(size, jump, start)
    raise UserError(f"layer={layer}: no layer of the feature extractor has patches by that name")


@torch.no_grad()
def strongest_patches(
    network: nn.Sequential,
    images: Tensor,
    layer: str,
    *,
    channels: int = 5,
    patches: int = 8,
    batch_size: int = 64,
) -> Patches:
    """The patches (of different images) that excite the layer most, for its strongest channels.

    Channels are ranked by the mean of their `patches` strongest values. `images` (N, C, H, W)
    normalised as for the network, in evaluation mode, on its device. Fewer are returned where the
    layer has fewer channels or N is smaller.

    Raises UserError as `receptive_field` and `desalinet` do.
    """
    field = receptive_field(network, layer)
    strengths, places = [], []
    for batch in torch.split(images, batch_size):
        maps = _features(network, batch, layer)
        width = maps.shape[-1]
        strength, place = maps.flatten(2).max(2)
        strengths.append(strength)
        places.append(place)
    by_image, place = torch.cat(strengths), torch.cat(places)
    patches = min(patches, len(images))
    top, who = by_image.topk(patches, dim=0)
    chosen = top.mean(0).topk(min(channels, top.shape[1])).indices
    image, strength = who[:, chosen].T, top[:, chosen].T
    where = place[image, chosen[:, None]]
    rows, columns = where // width, where % width
    inputs: list[Tensor] = []
    pictures: list[Tensor] = []
    for k, channel in enumerate(chosen.tolist()):
        for p in range(patches):
            one = images[image[k, p]][None]
            neuron = (channel, int(rows[k, p]), int(columns[k, p]))
            picture = desalinet(network, one, layer, ("neuron", neuron))
            for kept, whole in ((inputs, one), (pictures, picture)):
                kept.append(_cut(whole[0], field.at(neuron[1]), field.at(neuron[2])))
    shape = (len(chosen), patches, *inputs[0].shape)
    return Patches(
        chosen,
        image,
        rows,
        columns,
        strength,
        torch.stack(inputs).view(shape),
        torch.stack(pictures).view(shape),
    )


def _features(network: nn.Sequential, images: Tensor, layer: str) -> Tensor:
    x = images
    for name, module in network.named_children():
        x = module(x)
        if name == layer:
            break
    return x


def _cut(image: Tensor, rows: slice, columns: slice) -> Tensor:
    """A window of (C, H, W), zeros where it lies outside."""
    height, width = image.shape[1:]
    result = image.new_zeros(len(image), rows.stop - rows.start, columns.stop - columns.start)
    top, left = max(rows.start, 0), max(columns.start, 0)
    bottom, right = min(rows.stop, height), min(columns.stop, width)
    inner = image[:, top:bottom, left:right]
    y, x = top - rows.start, left - columns.start
    result[:, y : y + inner.shape[1], x : x + inner.shape[2]] = inner
    return result
