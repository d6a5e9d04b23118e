"""A last.ckpt that cannot be read is set aside, so that its stage starts again."""

import logging
from pathlib import Path

import torch

log = logging.getLogger(__name__)

# What Lightning needs to continue a training.
_NEEDED = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch"}


def set_aside_damaged(last: Path) -> Path | None:
    """Rename a checkpoint from which no training can continue, with a warning of one line.

    Only names and shapes are read, not the gigabytes of the tensors. Call it before anything asks
    whether there is a checkpoint.

    Returns:
        The new name, last.ckpt.damaged; None if the checkpoint is whole, or there is none.
    """
    if not last.is_file():
        return None
    try:
        content = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
        lacking = _NEEDED - content.keys()
        reason = f"it lacks {min(lacking)}" if lacking else ""
    except Exception as error:  # a damaged archive or pickle raises all kinds of errors
        reason = type(error).__name__
    if not reason:
        return None
    aside = last.with_name(f"{last.name}.damaged")
    last.replace(aside)
    log.warning("%s: damaged (%s); renamed to %s, the stage starts again", last, reason, aside.name)
    return aside
