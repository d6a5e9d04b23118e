"""A check that all files of a layout are images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from stagetransfer.data.samples import Samples
from stagetransfer.errors import UserError
from stagetransfer.files import open_image

_CHUNK = 256  # files per task: one task for each of a million files would take gigabytes


def check_images(samples: Samples) -> None:
    """Raise UserError unless every file is an image; images in memory are not checked."""
    if isinstance(samples.images, np.ndarray):
        return
    paths = samples.images
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor() as pool:
        broken = [found for part in pool.map(_broken, chunks) for found in part]
    if broken:
        path, why = broken[0]
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise UserError(f"{path}: {why}{more}; remove or replace it")


def _broken(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    broken = []
    for path in paths:
        try:
            with open_image(path) as image:
                image.verify()
        except UnidentifiedImageError:
            broken.append((path, "not an image"))
        # For a damaged file, Pillow's readers raise exceptions of many kinds.
        except Exception as error:
            broken.append((path, f"not a readable image ({' '.join(str(error).split())})"))
    return broken
