"""The processes of one run. Under DDP the first is the leader; the followers only train along."""

import os
import threading
import time
from typing import TypeVar

T = TypeVar("T")

# Environment variable with the number of the process that a child must not outlive.
PARENT = "STAGETRANSFER_PARENT"


def is_follower() -> bool:
    """Return whether another process leads this run: the leader alone locks, writes and tests."""
    return int(os.environ.get("LOCAL_RANK", "0")) > 0


def leaders_value(value: T) -> T:
    """Return the leader's value in each process of the run, after waiting for the leader.

    Before the first training there is only the leader. A follower that starts later finds what the
    leader found, because only the leader changes it.
    """
    from torch import distributed

    if not distributed.is_initialized():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def leave_process_group() -> None:
    """End the group of processes: the leader continues as a process of its own."""
    from torch import distributed

    if not distributed.is_initialized():
        return
    distributed.destroy_process_group()
    if not is_follower():
        for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)


def end_with_parent() -> None:
    """End this process within two seconds after the process named in `PARENT` has ended.

    The child of a killed parent would otherwise continue unseen, and disturb the next try.
    """
    name = os.environ.pop(PARENT, None)
    if name is None:
        return

    def watch() -> None:
        while os.getppid() == int(name):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
