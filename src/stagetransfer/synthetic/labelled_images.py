"""The result of every generator: images with ids, labels, classes, groups and splits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class LabelledImages(NamedTuple):
    """N generated images of C classes; the fields are those of `stagetransfer.data.Samples`."""

    images: NDArray[np.uint8]  # (N, H, W) grey or (N, H, W, 3) RGB
    ids: tuple[str, ...]  # N unique names
    labels: NDArray[np.int64]  # (N,) in [0, C)
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None  # N names of patients or physical samples
    splits: tuple[str, ...] | None = None  # N of "train" or "test"
