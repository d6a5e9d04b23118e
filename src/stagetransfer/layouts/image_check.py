"""A check that all files of a layout are images that can be decoded to the end."""

import hashlib
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagetransfer.errors import UserError
from stagetransfer.files import ImageSource
from stagetransfer.image_files import read_image
from stagetransfer.layouts.samples import Samples
from stagetransfer.layouts.shards import PackedImages

FAR_FROM_SQUARE = 1.25  # the longer side over the shorter one: a fifth of the image is cut off
NOT_SQUARE = "far from square (domain.<name>.fit: crop uses their centre, stretch all of them)"
_CHUNK = 4096  # tasks at a time: one for each of a million files would take gigabytes

log = logging.getLogger(__name__)


def check_images(samples: Samples) -> NDArray[np.uint64]:
    """Decode every image, and return the (N,) digests of their pixels, which copies share.

    What had to be changed in some images (see `image_files`), and how many are far from square, is
    logged. UserError names the first file that cannot be decoded. Packed images are not read.
    """
    if isinstance(samples.images, np.ndarray):
        return np.array([_digest(pixels) for pixels in samples.images], dtype=np.uint64)
    paths = samples.images
    if isinstance(paths, PackedImages):
        return paths.digests
    digests, changes, failed = [], Counter[str](), []
    with ThreadPoolExecutor() as pool:  # PIL releases the interpreter lock while it decodes
        for first in range(0, len(paths), _CHUNK):
            for found in pool.map(_check, paths[first : first + _CHUNK]):
                if isinstance(found, UserError):
                    failed.append(found)
                else:
                    digests.append(found[0])
                    changes.update(found[1])
    if failed:
        more = f" (and {len(failed) - 1} more such files)" if len(failed) > 1 else ""
        raise UserError(f"{failed[0]}{more}")
    for change, count in changes.items():
        root = Path(str(paths[0])).parent.parent
        log.info("%s: %d of %d images were %s", root, count, len(paths), change)
    return np.array(digests, dtype=np.uint64)


def _check(path: ImageSource) -> tuple[int, tuple[str, ...]] | UserError:
    try:
        image, changed = read_image(path)
    except UserError as error:
        return error
    if max(image.size) > FAR_FROM_SQUARE * min(image.size):
        changed = (*changed, NOT_SQUARE)
    return _digest(np.asarray(image)), changed


def _digest(pixels: NDArray[np.uint8]) -> int:
    """Digest (H, W) or (H, W, 3) pixels; a grey image stored in colour is like the grey one."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    content = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=8)
    content.update(np.ascontiguousarray(pixels).data)
    return int.from_bytes(content.digest(), "big")
