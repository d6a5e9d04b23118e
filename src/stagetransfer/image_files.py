"""Image files of any common kind, decoded to 8 bits: turned upright, and without transparency.

What 8 bits cannot hold, and what is more than one picture, is refused: its values or its other
frames would be lost, and nobody would notice.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from stagetransfer.errors import UserError
from stagetransfer.files import ImageSource, open_image

TURNED = "turned as their EXIF orientation says"
OPAQUE = "composited on black, since they have transparent pixels"
BACKGROUND = (0, 0, 0, 255)  # black, as the surroundings of a CT slice
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_WIDE = re.compile(r";16[BLNS]")
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


class Decoded(NamedTuple):
    """An image of mode L or RGB, and what was done to its pixels: `TURNED` or `OPAQUE`."""

    image: Image.Image
    changes: tuple[str, ...]


def read_image(
    path: ImageSource, *, mode: str | None = None, side: int | None = None, stretch: bool = False
) -> Decoded:
    """Return the image in a file as mode L (grey images) or RGB.

    UserError if the file cannot be decoded, has more than 8 bits per channel or several frames.

    Args:
        mode: "L" or "RGB" for all images.
        side: a size in pixels that suffices; a JPEG may be decoded at a lower resolution than its
            own, but not below this one.
        stretch: whether both sides may have to reach `side`, or only the shorter one.
    """
    changes = []
    try:
        with open_image(path) as image:
            _check_kind(path, image)
            if side is not None and (stretch or min(image.size) >= side):
                image.draft(None, (side, side))
            turned = _is_turned(image)
            image.load()
            if turned or _is_turned(image):  # a PNG may say so after its pixels
                changes.append(TURNED)
            upright = ImageOps.exif_transpose(image)
            grey = upright.mode in _GREY
            if upright.has_transparency_data:
                layer = upright.convert("RGBA")
                if layer.getchannel("A").getextrema() != (255, 255):
                    changes.append(OPAQUE)
                    background = Image.new("RGBA", layer.size, BACKGROUND)
                    upright = Image.alpha_composite(background, layer).convert("RGB")
            converted = upright.convert(mode or ("L" if grey else "RGB"))
    except UserError:
        raise
    # For a damaged file, Pillow's readers raise exceptions of many kinds.
    except Exception as error:
        why = "" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        detail = f"not a readable image ({why})" if why else "not an image"
        raise UserError(f"{path}: {detail}; remove or replace it") from error
    return Decoded(converted, tuple(changes))


def _is_turned(image: Image.Image) -> bool:
    return bool(image.getexif().get(_ORIENTATION, 1) != 1)


def _check_kind(path: ImageSource, image: Image.Image) -> None:
    """Refuse what 8 bits or one frame cannot hold, and what Pillow decodes wrongly."""
    # Of colour images with more bits, Pillow keeps the upper 8.
    decoders = _decoders(image)
    wide = any(_WIDE.search(repr(args)) for _, args in decoders)
    if image.format == "PPM":
        wide = any(isinstance(one, int) and one > 255 for _, args in decoders for one in args)
    if wide or image.mode.startswith(("I", "F")):
        raise UserError(
            f"{path}: an image with more than 8 bits per channel has no 0-255 scale; apply a "
            "window (for the lung -600/1500 HU) and save it with 8 bits"
        )
    if image.mode not in (*_GREY, *_COLOUR):
        raise UserError(f"{path}: an image of mode {image.mode}; save it as grey or RGB")
    # Of a JPEG with further pictures (MPO), these are previews or depths: the first one counts.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise UserError(f"{path}: an image of {frames} frames; save each as a file of its own")
    # Pillow 13.0 decodes these with width and height exchanged.
    raw = any(name != "libtiff" for name, _ in decoders)
    if image.format == "TIFF" and raw and image.getexif().get(_ORIENTATION, 1) > 4:
        raise UserError(f"{path}: an uncompressed TIFF that is turned; save it upright")


def _decoders(image: Image.Image) -> list[tuple[str, tuple[object, ...]]]:
    """Return the names of Pillow's decoders, and what they are told, such as RGB;16B."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    told = ((tile[0], tile[3]) for tile in tiles)
    return [(name, args if isinstance(args, tuple) else (args,)) for name, args in told]
