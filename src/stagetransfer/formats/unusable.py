"""Why a part of the input cannot be used, and the limit of its size."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Values of a volume, or of a file of frames: 2,048 slices of 512 x 512 pixels.
MAX_VALUES = 2**29


class Unusable(Exception):
    """A part of the input is left out.

    `kind` is a plural noun for the summary, such as "truncated files", never header content. The
    text says what is wrong and what to do, without the name of the file.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Unreadable(Unusable):
    """A file, or a slice of it, cannot be decoded."""

    def __init__(self, text: str) -> None:
        super().__init__("unreadable files", text)
