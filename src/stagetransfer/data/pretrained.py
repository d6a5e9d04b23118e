"""Published weights that replace the training of a chain's first stage."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagetransfer.errors import UserError


@dataclass(frozen=True)
class Pretrained:
    """A source of weights: "torchvision", or a file that `models.load_weights` reads."""

    name: str
    weights: str

    def identity(self) -> dict[str, Any]:
        """Return what decides a result: the content of the file, not its path."""
        if self.weights == "torchvision":
            return {"weights": "torchvision AlexNet_Weights.IMAGENET1K_V1"}
        path = Path(self.weights)
        if not os.path.isfile(path):  # a name that is too long is no error here
            raise UserError(
                f"domain.{self.name}.weights={self.weights}: no such file; give a .caffemodel, "
                f".npy, .pt, .ckpt or .safetensors file, or torchvision"
            )
        with path.open("rb") as file:
            return {"weights": hashlib.file_digest(file, "sha256").hexdigest()}
