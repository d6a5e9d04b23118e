"""Which GPU and how many CPU threads each job of a sweep gets.

A slot is a place for one running job. Slot i gives its jobs the visible GPU number i, by setting
`CUDA_VISIBLE_DEVICES`; with more slots than GPUs, several slots share a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Sequence


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    # device_count() ends at the first name in CUDA_VISIBLE_DEVICES that does not exist.
    count = torch.cuda.device_count()
    names = [str(i) for i in range(count)] if named is None else named.split(",")
    return [name.strip() for name in names[:count]]


def device_of_slot(slot: int, devices: Sequence[str]) -> str | None:
    """Return the GPU of a slot, or None on a machine without GPUs."""
    return devices[slot % len(devices)] if devices else None


def slot_environments(count: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """Return the environment variables that each slot adds to those of the launcher.

    They are the slot's GPU, the number of CPU threads (the cores divided by `count`, unless
    OMP_NUM_THREADS is set already) and the process with which the job has to end.

    Args:
        count: the number of slots.
        devices: the visible GPUs, see `visible_devices`; may be empty.
    """
    from stagetransfer.pipeline.distributed import PARENT

    shared = {PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    if "OMP_NUM_THREADS" not in os.environ:
        shared["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // count))
    own = (device_of_slot(slot, devices) for slot in range(count))
    return [shared | ({} if one is None else {"CUDA_VISIBLE_DEVICES": one}) for one in own]
