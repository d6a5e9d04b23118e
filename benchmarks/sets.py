"""Generated image sets like those that the framework is for, as trees with a folder a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 4


@dataclass(frozen=True)
class Kind:
    """Images of one kind: how they look on disk, and how a training sees them."""

    title: str
    width: int
    height: int
    mode: str
    suffix: str
    held: bool  # whether such a set commonly fits in memory
    crop: float  # share of the side that a random crop cuts away
    detail: int  # pixels to a grain: what makes a photo's JPEG about as large as ImageNet's


KINDS = {
    "patches": Kind("32x32 grey patches", 32, 32, "L", ".png", True, 0.0, 4),
    "textures": Kind("200x200 colour textures", 200, 200, "RGB", ".png", True, 0.0, 4),
    "photos": Kind("500x375 JPEG photos", 500, 375, "RGB", ".jpg", False, 0.114, 3),
}


def make(kind: Kind, root: Path, train: int, test: int) -> None:
    """Writes root/{train,test}/<class>/ with so many images each, and a small root/val/."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test), ("val", CLASSES)):
        for number in range(count):
            folder = root / split / f"class{number % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            _picture(kind, random).save(folder / f"{number:05d}{kind.suffix}", quality=90)


def _picture(kind: Kind, random: np.random.Generator) -> Image.Image:
    """Soft blobs under fine grain, so that files are about as large as real ones."""
    channels = () if kind.mode == "L" else (3,)
    size = (kind.width, kind.height)
    layers = []
    for grain in (16 * kind.detail, kind.detail):
        coarse = (-(-kind.height // grain), -(-kind.width // grain), *channels)
        pixels = random.integers(0, 256, coarse, dtype=np.uint8)
        layers.append(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return Image.blend(layers[0], layers[1], 0.35)
