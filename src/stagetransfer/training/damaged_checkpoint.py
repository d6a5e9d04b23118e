"""Checkpoints from which no training can continue are set aside, so that the stage starts again."""

import logging
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

# What Lightning needs to continue a training.
_NEEDED = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch"}


def set_aside_damaged(folder: Path) -> list[Path]:
    """Rename the checkpoints of a stage whose training cannot continue, with a warning of one line.

    It cannot if last.ckpt is damaged or lacks something, or if the best.ckpt that last.ckpt counts
    on is damaged or missing. Only names and shapes are read, not the gigabytes of the tensors. Call
    it before anything asks whether there is a checkpoint.

    Returns:
        The new names, such as last.ckpt.damaged; empty if the training can continue.
    """
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    if not last.is_file():
        return []
    content, reason = _content(last)
    damaged = last
    if not reason and (lacking := _NEEDED - content.keys()):
        reason = f"it lacks {min(lacking)}"
    if not reason and (best.is_file() or _counts_on_best(content)):
        damaged, reason = best, _content(best)[1]
    if not reason:
        return []
    moved = []
    for file in (last, best):
        if file.is_file():
            moved.append(file.replace(file.with_name(f"{file.name}.damaged")))
    names = ", ".join(one.name for one in moved)
    log.warning("%s: damaged (%s); renamed: %s; the stage starts again", damaged, reason, names)
    return moved


def _content(file: Path) -> tuple[Any, str]:
    """Return the content of a checkpoint, and what is wrong with it ("" if nothing is)."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True), ""
    except FileNotFoundError:
        return {}, "it is missing"
    except Exception as error:  # a damaged archive or pickle raises all kinds of errors
        return {}, type(error).__name__


def _counts_on_best(content: dict[str, Any]) -> bool:
    """Whether a training had already chosen an epoch: its ModelCheckpoint had saved best.ckpt."""
    states = dict(content["callbacks"]).values()
    return any(isinstance(one, dict) and one.get("best_model_path") for one in states)
