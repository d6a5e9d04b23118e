"""What a stage of the chain decides about the images of its domain."""

from dataclasses import dataclass
from typing import Any

from stagetransfer.errors import UserError


@dataclass(frozen=True)
class StageSettings:
    """What the stage decides about its data."""

    name: str  # the domain's key in the config
    is_target: bool = True  # the last stage of its chain, which has a test set
    ratio: float = 1.0  # share r of the training images that is used, in (0, 1]
    ratio_by: str = "image"  # what the ratio counts: "image", or "group" for whole groups
    seed: int = 0  # draws the subset and the order of the images
    batch_size: int = 64
    balanced: bool = False  # draw all classes equally often
    downsampled: bool = False  # use as many training images of each class as the rarest has
    input_size: int = 227  # side in pixels
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of R, G and B, for values in [0, 1]
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.ratio_by not in ("image", "group"):
            raise UserError(f"ratio_by={self.ratio_by}: none of image, group")

    @property
    def key(self) -> str:
        """Place of the domain in the config, for messages."""
        return f"domain.{self.name}"

    def deciding(self) -> dict[str, Any]:
        """Return the values that decide which images are used; the rest is in other identities."""
        return {"ratio": self.ratio, "ratio_by": self.ratio_by if self.ratio < 1 else None}
