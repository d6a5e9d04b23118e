"""Images: decoded from files to uint8 tensors, augmented, and turned into network input."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from stagetransfer.data.confounder import Confounder
from stagetransfer.files import ImageSource, open_image
from stagetransfer.image_files import read_image
from stagetransfer.layouts.samples import Samples
from stagetransfer.layouts.shards import PackedImages


class Batch(NamedTuple):
    """B labelled images; `rows` are their numbers in the domain's samples."""

    images: Tensor  # (B, C, H, W) uint8 in [0, 255], channels last; later (B, 3, S, S) float
    labels: Tensor  # (B,) int64
    rows: Tensor  # (B,) int64


class ImageSet(Dataset[Batch]):
    """Images of some rows, held in memory if they fit the limit in bytes, or read for each batch.

    They are square, `side` pixels wide (see `stored_side`), and decoded from their files or read
    from `cache`, the file of all images of the domain that `training.image_cache` writes. All ways
    give the same pixels, with the `confounder` planted.
    """

    def __init__(
        self,
        samples: Samples,
        rows: NDArray[np.int64],
        side: int,
        fit: str,
        memory_limit: float,
        confounder: Confounder | None = None,
        cache: Path | None = None,
    ) -> None:
        self.rows = torch.from_numpy(rows)
        self.labels = torch.from_numpy(samples.labels[rows])
        self.side, self.fit = side, fit
        self.confounder, self.cache = confounder, cache
        self.files: Sequence[ImageSource] = ()
        self.held: Tensor | None = None
        images, fits = samples.take(rows).images, len(rows) * 3 * side * side <= memory_limit
        if isinstance(images, np.ndarray):
            self.held = _channels_first(images)
        elif fits and cache is not None:
            self.held = _channels_first(memory_map(cache)[rows])
        elif fits:
            self.held = _decode_all(images, side, fit)
        else:
            self.files = images
        if self.held is not None and confounder is not None:
            self.held = confounder.plant(self.held, rows)

    def move(self, device: torch.device, limit: float) -> None:
        """Move held images of at most `limit` bytes to the device, where batches are selected."""
        if self.held is not None and self.held.nbytes <= limit:
            self.held = self.held.to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return one batch; DataLoader calls this instead of `__getitem__`."""
        index = torch.as_tensor(indices)
        if self.held is not None:
            images = _select(self.held, index.to(self.held.device))
            return Batch(images, self.labels[index], self.rows[index])
        rows = self.rows[index].numpy()
        if self.cache is not None:
            pixels = memory_map(self.cache)[rows]
        else:
            packed = self.files if isinstance(self.files, PackedImages) else None
            files = packed.several(indices) if packed else [self.files[i] for i in indices]
            pixels = np.stack([decode(file, self.side, self.fit, "RGB") for file in files])
        images = _channels_first(pixels)
        if self.confounder is not None:
            images = self.confounder.plant(images, rows)
        return Batch(images, self.labels[index], self.rows[index])


@functools.cache  # a process maps a file once; a pickled map would be a copy of its content
def memory_map(path: Path) -> NDArray[np.uint8]:
    """Return the array in a .npy file, which is read where it is used."""
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return array


def stored_side(images: Sequence[ImageSource] | NDArray[np.uint8], side: int) -> int:
    """Return the side at which all images of a domain are stored, in pixels.

    Square images of one size, no larger than `side`, stay at that size: a 32x32 patch is enlarged
    in the batch, on the device, and needs a fiftieth of the memory. All others get `side`. Memory
    limits and splits do not matter, because a crop of the enlarged image has other pixels. A packed
    set has recorded its size; of others, the header of each file is read.
    """
    if isinstance(images, PackedImages) and images.side is not None:
        return images.side if 0 < images.side <= side else side
    sizes = set()
    for path in () if isinstance(images, np.ndarray) else images:
        with suppress(OSError, SyntaxError, ValueError), open_image(path) as image:
            sizes.add(image.size)
            if len(sizes) > 1 or image.width != image.height or image.width > side:
                return side
    return sizes.pop()[0] if sizes else side


def decode(path: ImageSource, side: int, fit: str, mode: str | None = None) -> NDArray[np.uint8]:
    """Return the image as uint8 (H, W) or (H, W, 3), always square.

    Args:
        side: size in pixels. Without `mode`, a square image that is no larger keeps its size; with
            `mode`, all images get this size, since a batch needs one shape.
        fit: "crop" takes the central square and scales it; "stretch" scales both sides.
        mode: "L" or "RGB"; None keeps grey images grey.
    """
    array = np.asarray(read_image(path, mode=mode, side=side, stretch=fit == "stretch").image)
    small = mode is None and array.shape[0] == array.shape[1] <= side
    return array if small else _square(array, side, fit)


def _square(image: NDArray[np.uint8], side: int, fit: str) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if fit == "crop":
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        image = image[top : top + short, left : left + short]
    resized = resize(_channels_first(np.array(image[None])), side)
    return resized[0, 0].numpy() if image.ndim == 2 else resized[0].movedim(0, -1).numpy()


def _decode_all(paths: Sequence[ImageSource], side: int, fit: str) -> Tensor:
    with ThreadPoolExecutor() as pool:  # PIL releases the interpreter lock while it decodes
        arrays = list(pool.map(lambda path: _square(decode(path, side, fit), side, fit), paths))
    if len({array.ndim for array in arrays}) > 1:
        arrays = [np.asarray(Image.fromarray(array).convert("RGB")) for array in arrays]
    return _channels_first(np.stack(arrays))


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
    """Return a view (B, C, H, W) of (B, H, W) or (B, H, W, C), with channels last in memory."""
    tensor = torch.from_numpy(images)
    return tensor[:, None] if tensor.ndim == 3 else tensor.movedim(-1, 1)


def _select(images: Tensor, index: Tensor) -> Tensor:
    """Return images[index]; six times as fast as that with channels last."""
    return images.movedim(1, -1).index_select(0, index).movedim(-1, 1)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images as PIL does: bicubic (a = -0.5), antialiased, in 8 bits.

    PIL rounds and clips after the first pass, along the rows, and again after the second. On the
    CPU, PyTorch's kernel for uint8 does the same; elsewhere the two passes are computed one by
    one. (Pillow 13 begins with the columns of images that are higher than wide.) `images` are
    (B, C, H, W) uint8, fastest with channels last, and the result is within two levels of PIL's.
    """
    if images.shape[-2:] == (size, size):
        return images
    if images.device.type == "cpu":
        return F.interpolate(images, (size, size), mode="bicubic", antialias=True)
    return _resize_in_two_passes(images, size)


def _resize_in_two_passes(images: Tensor, size: int) -> Tensor:
    x = images.float()
    for shape in ((images.shape[-2], size), (size, size)):
        x = F.interpolate(x, shape, mode="bicubic", antialias=True).clamp_(0, 255).round_()
    return x.to(torch.uint8)


def to_input(images: Tensor, size: int, mean: Tensor, std: Tensor) -> Tensor:
    """Return network input (B, 3, size, size), (x / 255 - mean) / std, from stored images.

    Images (B, 1 or 3, H, W) are enlarged by `resize`; the paper enlarges 32x32 patches "by bicubic
    interpolation". `mean` and `std` are (3, 1, 1), of RGB in [0, 1]. The result has channels last.
    """
    if images.device.type == "cpu":  # PyTorch's CPU kernel needs three channels
        images = images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    x = resize(images, size).expand(-1, 3, -1, -1)
    # As rows of 3 * size values: a mean of shape (3, 1, 1) takes three times longer.
    rows = x.movedim(1, -1).reshape(-1, 3 * size).float().div_(255)
    rows.sub_(mean.flatten().repeat(size)).div_(std.flatten().repeat(size))
    return rows.view(-1, size, size, 3).movedim(-1, 1)


def augment(images: Tensor, *, mirror: bool, turn: bool, crop: float) -> Tensor:
    """Return random variants of stored images, drawn from torch's generator of their device.

    Args:
        images: (B, C, H, W) uint8; fastest with channels last.
        mirror: flip each image left to right with probability 1/2.
        turn: turn each image by 0, 90, 180 or 270 degrees (square images only).
        crop: share of the side that is removed; each image at its own random place.
    """
    count = len(images)
    if crop:
        images = _crop(images, crop, torch.rand(count, 2).tolist())
    if mirror:
        chosen = torch.rand(count, device=images.device) < 0.5
        both = torch.cat((images, images.flip(-1)))
        images = _select(both, torch.arange(count, device=images.device) + count * chosen)
    if turn:
        quarters = torch.randint(4, (count,), device=images.device)
        turned = zip(images.movedim(1, -1), quarters.tolist(), strict=True)
        images = torch.stack([torch.rot90(image, k) for image, k in turned]).movedim(-1, 1)
    return images


def centre_crop(images: Tensor, crop: float) -> Tensor:
    """Return the centre of each image, as large as a random crop: for validation and test."""
    return _crop(images, crop, [[0.5, 0.5]] * len(images)) if crop else images


def _crop(images: Tensor, crop: float, places: Sequence[Sequence[float]]) -> Tensor:
    height, width = images.shape[-2:]
    h, w = round(height * (1 - crop)), round(width * (1 - crop))
    corners = [(round(y * (height - h)), round(x * (width - w))) for y, x in places]
    windows = zip(images.movedim(1, -1), corners, strict=True)
    return torch.stack([image[y : y + h, x : x + w] for image, (y, x) in windows]).movedim(-1, 1)
