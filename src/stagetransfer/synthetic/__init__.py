"""Generated data sets, so that every chain runs without a download (docs/embedded-data.md).

Three domains (natural scenes, textures, a phantom of lung patterns), whole slices of the phantom,
and small example sets in the layouts of published tasks.
"""

import functools
from collections.abc import Callable

from stagetransfer.layouts.samples import Samples
from stagetransfer.synthetic.lung import lung
from stagetransfer.synthetic.natural import natural
from stagetransfer.synthetic.texture import texture

# The runs of a sweep in one process share these images, which take seconds to draw.
GENERATORS: dict[str, Callable[..., Samples]] = {
    name: functools.lru_cache(maxsize=2)(draw)
    for name, draw in (("natural", natural), ("texture", texture), ("target", lung))
}

__all__ = ["GENERATORS", "lung", "natural", "texture"]
