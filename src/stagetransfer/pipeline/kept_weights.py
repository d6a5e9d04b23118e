"""What remains of a finished run's network: `keep: best | head | none`."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagetransfer.errors import UserError
from stagetransfer.training import network_state, write_checkpoint

log = logging.getLogger(__name__)

KEEP = {"best": "best.ckpt", "head": "head.ckpt", "none": None}
"""The values of `keep`, and the file in `checkpoints` that each leaves."""


def keep_weights(keep: str, checkpoints: Path, source: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write head.ckpt if it is asked for, and return the entry `kept` of metrics.json.

    head.ckpt holds the tensors of best.ckpt that are not those of the source, bit for bit. The
    entry has the name of the file that remains, and a digest of the source's tensors that it needs.

    Args:
        source: the weights of the stage before; empty if there is none.
    """
    if keep == "head":
        state = network_state(checkpoints / "best.ckpt")
        same = [name for name in state if name in source and torch.equal(state[name], source[name])]
        if same:
            rest = {name: state[name] for name in state if name not in same}
            write_checkpoint({"state_dict": rest}, checkpoints / "head.ckpt")
            return {"file": "head.ckpt", "source_sha256": _digest(source, same)}
        log.info("  keep=head: best.ckpt is kept, because every layer was tuned")
        keep = "best"
    return {"file": KEEP[keep], "source_sha256": None}


def whole_state(
    head: Mapping[str, Tensor], source: Mapping[str, Tensor], digest: object, run: Path
) -> dict[str, Tensor]:
    """Return the run's state dict from the tensors in head.ckpt and the source's others.

    Raises:
        UserError: the source is not the one that the run started from.
    """
    same = source.keys() - head.keys()
    if _digest(source, same) != digest:
        raise UserError(
            f"{run}: head.ckpt needs the source stage that the run started from, and the stored "
            "one has other weights. Run again with force=true."
        )
    return {**source, **head}


def _digest(state: Mapping[str, Tensor], names: Iterable[str]) -> str:
    found = hashlib.sha256()
    for name in sorted(names):
        found.update(name.encode())
        found.update(state[name].contiguous().numpy().tobytes())
    return found.hexdigest()
