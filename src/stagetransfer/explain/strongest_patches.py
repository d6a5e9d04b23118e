"""The image patches that excite a layer's channels most, with the saliency map of each."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagetransfer.errors import UserError
from stagetransfer.explain.saliency import desalinet


@dataclass(frozen=True)
class ReceptiveField:
    """The input pixels that influence one position of a layer, the same in both directions.

    Position p depends on the pixels [start + p * jump, start + p * jump + size). Pixels outside
    the image are padding. Computed by the sums of Dumoulin & Visin 2016 (arXiv 1603.07285).
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

    channels: Tensor  # (K,) numbers of the channels
    images: Tensor  # (K, P) numbers of the images
    rows: Tensor  # (K, P) positions in the layer's output
    columns: Tensor  # (K, P) the same
    activations: Tensor  # (K, P) the layer's values at these positions
    inputs: Tensor  # (K, P, C, size, size) patches of the network's input; 0 outside the image
    maps: Tensor  # as inputs; DeSaliNet's maps of the single neuron that the patch belongs to


def receptive_field(network: nn.Sequential, layer: str) -> ReceptiveField:
    """Return the receptive field of a layer of convolutions and pools with square kernels.

    A linear layer or an adaptive pool up to the layer is a UserError.
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
    raise UserError(
        f"layer={layer}: the feature extractor has no such layer, so there are no patches. "
        "Use a convolution or a pool, such as conv2."
    )


@torch.no_grad()
def strongest_patches(
    network: nn.Sequential,
    images: Tensor,
    layer: str,
    *,
    channels: int = 5,
    patches: int = 8,
    batch_size: int = 64,
) -> StrongestPatches:
    """Return the patches, each of another image, that excite a layer's strongest channels most.

    Channels are ranked by the mean of their `patches` largest activations. Fewer channels or
    patches are returned where the layer has fewer, or where there are fewer images.

    Args:
        network: in evaluation mode.
        images: (N, C, H, W), normalised as for the network, on its device.
    """
    field = receptive_field(network, layer)
    part = network[: list(network._modules).index(layer) + 1]
    maxima, positions = [], []
    for batch in torch.split(images, batch_size):
        activations = part(batch)
        width = activations.shape[-1]
        maximum, position = activations.flatten(2).max(2)
        maxima.append(maximum)
        positions.append(position)
    patches = min(patches, len(images))
    top, image = torch.cat(maxima).topk(patches, dim=0)  # (P, channels of the layer)
    chosen = top.mean(0).topk(min(channels, top.shape[1])).indices
    image, strength = image[:, chosen].T, top[:, chosen].T
    position = torch.cat(positions)[image, chosen[:, None]]
    rows, columns = position // width, position % width
    windows = []
    for k, channel in enumerate(chosen.tolist()):
        for p in range(patches):
            one, y, x = images[image[k, p]][None], int(rows[k, p]), int(columns[k, p])
            saliency = desalinet(network, one, layer, ("neuron", (channel, y, x)))
            windows.append(_window(torch.cat([one, saliency]), field.at(y), field.at(x)))
    stacked = torch.stack(windows)
    inputs, maps = stacked.view(len(chosen), patches, *stacked.shape[1:]).unbind(2)
    return StrongestPatches(chosen, image, rows, columns, strength, inputs, maps)


def _window(images: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return a window of (N, C, H, W), with zeros where it lies outside the images."""
    height, width = images.shape[2:]
    # Negative padding crops.
    margins = (-columns.start, columns.stop - width, -rows.start, rows.stop - height)
    return F.pad(images, margins)
