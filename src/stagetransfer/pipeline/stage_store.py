"""The shared store of source stages: each is trained once, whoever wants it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stagetransfer.pipeline.distributed import follower

log = logging.getLogger(__name__)


class StageStore:
    """Finished stages under `root/<key>/`, told by their file DONE.

    A stage is made in `root/<key>.partial/`, where a killed process leaves its last checkpoint for
    the next, and appears under its name by one rename. The lock is the operating system's: when
    its owner dies, however it dies, the next waiter gets it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the finished stage lies."""
        return self.root / key

    def finished(self, key: str) -> bool:
        """Whether the stage is there, whole."""
        return (self.path(key) / "DONE").is_file()

    @contextmanager
    def make(self, key: str) -> Iterator[Path | None]:
        """Gives the folder to make the stage in, or None if another process has made it.

        Leaving the block without an error publishes the folder's content as the finished stage;
        an error leaves the folder for the next try.
        """
        partial = self.root / f"{key}.partial"
        if follower():  # its leader holds the lock, and publishes
            yield partial
            return
        with exclusive(self.root / ".locks" / f"{key}.lock", f"stage {key}"):
            if (partial / "DONE").is_file():  # its maker was killed just before the rename
                self._publish(key, partial)
            if self.finished(key):
                yield None
                return
            partial.mkdir(parents=True, exist_ok=True)
            yield partial
            (partial / "DONE").touch()
            self._publish(key, partial)

    def _publish(self, key: str, partial: Path) -> None:
        if self.path(key).exists():  # without DONE: not ours, or damaged by hand
            shutil.rmtree(self.path(key))
        partial.rename(self.path(key))


@contextmanager
def exclusive(lock_file: Path, what: str) -> Iterator[None]:
    """Holds a lock between processes; says once for whom it waits."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    owner = lock_file.with_suffix(".owner")
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being made by %s; waiting for it", what, _name(owner))
        lock.acquire()
    owner.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _name(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text())
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError):  # the owner is just writing it, or has just left
        return "another process"
