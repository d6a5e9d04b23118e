"""A run's folder: where the run is written, why it failed, and what remains once it is finished.

What remains of its network is chosen by `keep: best | head | none`.
"""

import hashlib
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagetransfer.errors import UserError, cause, disk_fault
from stagetransfer.files import located, read_json, replace_folder, write_text
from stagetransfer.pipeline.stage_store import tidy
from stagetransfer.runs.reader import is_finished
from stagetransfer.training import network_state, write_checkpoint

log = logging.getLogger(__name__)


def work_folder(folder: Path, force: bool) -> Path:
    """Return where a run is written: its folder or, while that holds a result, one beside it.

    A hidden folder that is finished has not taken its place yet, because its process was killed.
    """
    beside = folder.with_name(f".{folder.name}.again")
    return beside if is_finished(beside) or (force and is_finished(folder)) else folder


def settle(work: Path, folder: Path) -> None:
    """Remove what a finished run no longer needs, and put it in its place."""
    checkpoints = work / "checkpoints"
    tidy(checkpoints)
    kept = read_json(work / "metrics.json").get("kept")
    if kept and kept["file"] != "best.ckpt":
        (checkpoints / "best.ckpt").unlink(missing_ok=True)
    if work != folder:
        replace_folder(work, folder)


@contextmanager
def failure_recorded(folder: Path) -> Iterator[None]:
    """Write why the run in the block fails, one line, to failure.txt until it is tried again.

    A crash also leaves its traceback, in failure.log.
    """
    failure, trace = folder / "failure.txt", folder / "failure.log"
    for file in (failure, trace):
        file.unlink(missing_ok=True)
    try:
        with located(folder):
            yield
    except Exception as error:
        with suppress(OSError):  # the first error counts, and a full disk takes no further file
            write_text(failure, cause(error) + "\n")
            if not (isinstance(error, UserError) or disk_fault(error)):
                write_text(trace, traceback.format_exc())
                error.add_note(f"The traceback is in {trace}")
        raise


KEEP = {"best": "best.ckpt", "head": "head.ckpt", "none": None}
"""The values of `keep`, and the file in `checkpoints` that each leaves."""


def keep_weights(keep: str, checkpoints: Path, source: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write head.ckpt if it is asked for, and return the entry `kept` of metrics.json.

    head.ckpt holds the tensors of best.ckpt that are not those of the source, bit for bit. The
    entry has the name of the file that remains, and a digest of the source's tensors that it needs.
    `source` are the weights of the stage before; empty if there is none.
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

    UserError if the source is not the one that the run started from.
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
        content = state[name].contiguous().reshape(-1).view(torch.uint8)  # NumPy has no bfloat16
        found.update(content.numpy().tobytes())
    return found.hexdigest()
