"""Generated image sets of the kinds that the framework is for, with one folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 4


@dataclass(frozen=True)
class Kind:
    """Images of one kind: their form on disk, and how a training reads them.

    Attributes:
        width, height: in pixels.
        mode: PIL's mode, L or RGB.
        held: whether such a set usually fits in memory.
        crop: share of the side that a random crop removes.
        detail: side in pixels of the finest grain. It is chosen so that a JPEG photo is about as
            large as one of ImageNet.
    """

    title: str
    width: int
    height: int
    mode: str
    suffix: str
    held: bool
    crop: float
    detail: int


KINDS = {
    "patches": Kind("32x32 grey patches", 32, 32, "L", ".png", True, 0.0, 4),
    "textures": Kind("200x200 colour textures", 200, 200, "RGB", ".png", True, 0.0, 4),
    "photos": Kind("500x375 JPEG photos", 500, 375, "RGB", ".jpg", False, 0.114, 3),
}


def make(kind: Kind, root: Path, train: int, test: int) -> None:
    """Write root/train/<class>/ and root/test/<class>/ with these numbers of images, and root/val/
    with one image per class."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test), ("val", CLASSES)):
        for number in range(count):
            folder = root / split / f"class{number % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            _image(kind, random).save(folder / f"{number:05d}{kind.suffix}", quality=90)


def _image(kind: Kind, random: np.random.Generator) -> Image.Image:
    """Return soft blobs under fine grain, so that files are about as large as real ones."""
    channels = () if kind.mode == "L" else (3,)
    size = (kind.width, kind.height)
    layers = []
    for grain in (16 * kind.detail, kind.detail):
        coarse = (-(-kind.height // grain), -(-kind.width // grain), *channels)
        pixels = random.integers(0, 256, coarse, dtype=np.uint8)
        layers.append(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return Image.blend(layers[0], layers[1], 0.35)
