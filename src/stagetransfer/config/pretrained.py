"""Published weights that replace the training of a chain's first stage."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagetransfer.errors import UserError
from stagetransfer.names import PUBLISHED


@dataclass(frozen=True)
class Pretrained:
    """A source of weights: one of `PUBLISHED`, or a file that `models.read_weights` reads."""

    name: str
    weights: str

    def identity(self) -> dict[str, Any]:
        """Return what decides a result: the content of the file, not its path."""
        if self.weights in PUBLISHED:  # which of them, the network decides
            return {"weights": self.weights}
        path = Path(self.weights)
        if not os.path.isfile(path):  # a name that is too long is no error here
            raise UserError(
                f"domain.{self.name}.weights={self.weights}: no such file; give a .caffemodel, "
                f".npy, .pt, .ckpt or .safetensors file, or one of {', '.join(PUBLISHED)}"
            )
        with path.open("rb") as file:
            return {"weights": hashlib.file_digest(file, "sha256").hexdigest()}
