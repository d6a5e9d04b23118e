"""The processes of one run: with DDP the first one leads, the others only train along."""

from __future__ import annotations

import os
import threading
import time
from typing import TypeVar

from torch import distributed

T = TypeVar("T")

# The process that this one must not outlive, for children that this package starts.
PARENT = "STAGETRANSFER_PARENT"


def follower() -> bool:
    """Whether another process of this run leads: it alone holds locks, writes and tests."""
    return int(os.environ.get("LOCAL_RANK", "0")) > 0


def agree(value: T) -> T:
    """The leader's value, in each process of the run; waits for the leader to give it.

    Before the first training there is only the leader; a follower that comes later finds what the
    leader found, since only the leader's own work changes it.
    """
    if not distributed.is_initialized():
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def part() -> None:
    """Ends the group of processes: the leader goes on as a process of its own."""
    if not distributed.is_initialized():
        return
    distributed.destroy_process_group()
    if not follower():
        for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)


def end_with_parent() -> None:
    """Ends this process within a second or two when the process named in `PARENT` is gone.

    A child of a killed parent would go on unseen, and in the way of the next try.
    """
    name = os.environ.pop(PARENT, None)
    if name is None:
        return

    def watch() -> None:
        while os.getppid() == int(name):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
