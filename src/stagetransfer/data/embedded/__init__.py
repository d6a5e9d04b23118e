"""Three generated domains, so that every chain runs without a download (docs/embedded-data.md)."""

from collections.abc import Callable

from stagetransfer.data.embedded.lung import lung
from stagetransfer.data.embedded.natural import natural
from stagetransfer.data.embedded.texture import texture
from stagetransfer.data.samples import Samples

GENERATORS: dict[str, Callable[..., Samples]] = {
    "natural": natural,
    "texture": texture,
    "target": lung,
}

__all__ = ["GENERATORS", "lung", "natural", "texture"]
