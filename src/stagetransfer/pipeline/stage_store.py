"""The store of source stages that all runs share: each stage is trained once."""

import fcntl
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from stagetransfer.errors import UserError
from stagetransfer.files import located, read_json
from stagetransfer.litter import remove_parts
from stagetransfer.pipeline.distributed import is_follower

log = logging.getLogger(__name__)

RATE_FILE = "learning_rate.json"  # the result of a range test
# What only a training that continues needs.
_UNFINISHED = ("last.ckpt", "last.ckpt.damaged", "best.ckpt.damaged", "search.json", RATE_FILE)


class StageStore:
    """Finished stages under `root/<key>/`; the file DONE marks them as finished.

    A stage is made in `root/<key>.partial/`, where a killed process leaves its last checkpoint for
    the next, and gets its name by one rename. The lock belongs to the operating system: when its
    owner dies, for whatever reason, the next process that waits gets it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Return the folder of the finished stage."""
        return self.root / key

    def finished(self, key: str) -> bool:
        """Return whether the stage exists and is complete."""
        return (self.path(key) / "DONE").is_file()

    def record(self, key: str) -> list[dict[str, Any]]:
        """Return the entries of a stage and of those before it; UserError if they are damaged."""
        file = self.path(key) / "stage.json"
        cure = f"Remove the folder {file.parent}, and the stage is trained again."
        stages = read_json(file, cure).get("stages")
        if not isinstance(stages, list) or not all(isinstance(one, dict) for one in stages):
            raise UserError(f"{file}: it lists no stages. {cure}")
        if not stages or not {"name", "key", "epochs"} <= stages[-1].keys():
            raise UserError(f"{file}: its last stage is incomplete. {cure}")
        return stages

    @contextmanager
    def make(self, key: str) -> Iterator[Path | None]:
        """Yield the folder to make the stage in, or None if another process has made it.

        Leaving the block without an error publishes the content of the folder as the finished
        stage; an error leaves the folder for the next try.
        """
        partial = self.root / f"{key}.partial"
        if is_follower():  # its leader holds the lock, and publishes
            yield partial
            return
        with exclusive(self.root / ".locks" / f"{key}.lock", f"stage {key}"):
            if (partial / "DONE").is_file():  # its process was killed just before the rename
                self._publish(key, partial)
            if self.finished(key):
                yield None
                return
            partial.mkdir(parents=True, exist_ok=True)
            with located(partial):
                yield partial
            (partial / "DONE").touch()
            self._publish(key, partial)

    def _publish(self, key: str, partial: Path) -> None:
        tidy(partial)
        (partial / "best.ckpt").unlink(missing_ok=True)  # model.ckpt holds its weights
        if self.path(key).exists():  # without DONE: not ours, or damaged by hand
            shutil.rmtree(self.path(key))
        partial.rename(self.path(key))


def tidy(checkpoints: Path) -> None:
    """Remove what a finished training, and processes that were killed in it, have left."""
    for name in _UNFINISHED:
        (checkpoints / name).unlink(missing_ok=True)
    remove_parts(checkpoints)


@contextmanager
def exclusive(lock_file: Path, what: str) -> Iterator[None]:
    """Hold a lock between processes; if another holds it, log which process that is.

    The lock is that of `flock`, also between the hosts of a network disk. Its file names its owner,
    and is removed with the lock.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with located(lock_file):
        file = _locked(lock_file, what)
    with file:
        with suppress(OSError):  # a full disk holds the lock, but no name
            file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        try:
            yield
        finally:
            with suppress(OSError):
                lock_file.unlink()
            fcntl.flock(file, fcntl.LOCK_UN)  # DataLoader's workers have it open too


def _locked(lock_file: Path, what: str) -> IO[bytes]:
    while True:
        file = lock_file.open("ab", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s is being made by %s; waiting for it", what, _describe(lock_file))
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(lock_file.stat(), os.fstat(file.fileno())):
                file.truncate(0)
                return file
        file.close()  # its owner has removed it meanwhile


def _describe(lock_file: Path) -> str:
    try:
        who = json.loads(lock_file.read_text())
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError):  # the owner is just writing it, or has just ended
        return "another process"
