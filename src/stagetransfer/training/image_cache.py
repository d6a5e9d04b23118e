"""Decoded images on disk: each file of a set that exceeds the memory is decoded once, for all runs.

The N images of a domain, scaled to the side at which they are stored, are one file, images.npy
(N, side, side, 3) uint8. It is written once, under the lock of its store, and read as a memory map.
"""

import errno
import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features

from stagetransfer.config.identity import key_of
from stagetransfer.data import DomainDataModule
from stagetransfer.data.images import decode, memory_map
from stagetransfer.errors import UserError, cause
from stagetransfer.layouts.shards import PackedImages
from stagetransfer.training.feature_cache import Store

_CHUNK = 256  # images that are decoded side by side, and then written
_TICK = 0.01  # seconds; the kernel stamps a change with the time of its last tick, 1 to 10 ms ago

log = logging.getLogger(__name__)


def use_image_cache(data: DomainDataModule, store: Store, *, fill: bool = True) -> None:
    """Let the data read decoded images from the store, which gets them if it has none.

    Nothing is done for sets that fit in memory, or are packed. If images cannot be cached, one line
    in the log says why, and they are decoded in each epoch, to the same pixels. The key does not
    depend on the splits: the file has all images of the domain.

    Args:
        fill: False in a process that only uses what another process has written.
    """
    settings, side, paths = data.settings, data.side, data.samples.images
    shape = (len(paths), side, side, 3)
    row = 3 * side**2 / 2**30
    largest = max(map(len, data.rows.values()))
    if isinstance(paths, np.ndarray | PackedImages) or largest * row <= settings.memory_limit_gib:
        return
    if (size := len(paths) * row) > (limit := settings.disk_limit_gib):
        if limit:
            why = f"they would take {size:.1f} GiB, disk_limit_gib={limit:g}"
            log.info("%s: images are decoded in each epoch: %s", data.stage.key, why)
        return
    # With the versions of the libraries that decode and scale.
    versions = [PIL.__version__, features.version("jpg"), torch.__version__]
    identity = {"images": data.fingerprint, "side": side, "fit": settings.fit, "with": versions}
    key = key_of(identity)
    path = store.path(key) / "images.npy"
    if not (fill or path.exists()):
        return  # the process that could not fill it has said why
    try:
        with store.make(key) if fill else nullcontext() as folder:
            if folder is not None:
                log.info("%s: decoding %d images once (%.2g GiB)", data.stage.key, len(paths), size)
                read = partial(_read, side=side, fit=settings.fit, since=data.read_at)
                _write(folder / path.name, cast(Sequence[Path], paths), shape, read)
        if memory_map(path).shape != shape:
            raise ValueError
    except (OSError, ValueError, EOFError, UserError) as error:
        damaged = f"{path}: damaged. Remove its folder"
        why = damaged if isinstance(error, ValueError | EOFError) else cause(error)
        log.warning("%s: images are decoded in each epoch: %s", data.stage.key, why)
    else:
        log.info("%s: decoded images are read from %s", data.stage.key, path.parent)
        data.cached_images = path


def _read(path: Path, *, side: int, fit: str, since: float) -> NDArray[np.uint8]:
    """Return a decoded image; UserError if its file is not the one that the fingerprint covers."""
    pixels = decode(path, side, fit, "RGB")
    if os.stat(path).st_ctime > since - _TICK:
        raise UserError(f"{path}: has changed since the images were listed. Start again")
    return pixels


def _write(
    path: Path,
    images: Sequence[Path],
    shape: tuple[int, ...],
    read: Callable[[Path], NDArray[np.uint8]],
) -> None:
    """Write all images in their order; those that a killed process has written stay.

    No memory map is written: on a full disk, it would end the process with SIGBUS. After an error,
    there is no file, so that it does not fill the disk.
    """
    row = math.prod(shape[1:])
    path.touch()
    try:
        with path.open("r+b") as file, ThreadPoolExecutor() as pool:  # PIL releases Python's lock
            head = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, head)
            begin = file.tell()
            done = (file.seek(0, os.SEEK_END) - begin) // row
            file.truncate(begin + done * row)
            file.seek(begin + done * row)
            if shutil.disk_usage(path.parent).free < (len(images) - done) * row:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            for first in range(done, len(images), _CHUNK):
                file.write(np.stack([*pool.map(read, images[first : first + _CHUNK])]).tobytes())
            file.flush()
            os.fsync(file.fileno())
    except Exception:
        path.unlink()
        raise
