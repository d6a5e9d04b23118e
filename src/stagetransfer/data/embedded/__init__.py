"""Three generated domains, so that every chain runs without a download (docs/embedded-data.md)."""

import functools
from collections.abc import Callable

from stagetransfer.data.embedded.lung import lung
from stagetransfer.data.embedded.natural import natural
from stagetransfer.data.embedded.texture import texture
from stagetransfer.data.samples import Samples

# The runs of a sweep in one process share what took seconds to draw; nothing changes it.
GENERATORS: dict[str, Callable[..., Samples]] = {
    "natural": functools.lru_cache(maxsize=2)(natural),
    "texture": functools.lru_cache(maxsize=2)(texture),
    "target": functools.lru_cache(maxsize=2)(lung),
}

__all__ = ["GENERATORS", "lung", "natural", "texture"]
