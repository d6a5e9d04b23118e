"""Files and folders that are being written, named so that those of killed processes are known.

The name of such a part is .NAME.SPACE-PROCESS.part. It says which process writes it, and SPACE says
where the number of the process is valid.
"""

import hashlib
import os
import re
import shutil
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

DAY = 86_400  # seconds
_PART = re.compile(r"\..+\.([0-9a-f]{8})-(\d{1,9})\.part")


def part_of(path: Path) -> Path:
    """Return the name under which `path` is written; its folder exists, without old litter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path.parent, path.parent.parent):
        _remove_litter(folder)
    return path.with_name(f".{path.name}.{_process_space()}-{os.getpid()}.part")


@cache
def _process_space() -> str:
    """Return what stands for this machine since its start, and for its process numbers.

    Two hosts on a shared disk may have one name, and each container has a process 1.
    """
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink(
            "/proc/self/ns/pid"
        )
    except OSError:
        text = socket.gethostname()
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache  # once per process: a command that writes many files lists a folder once
def _remove_litter(folder: Path) -> None:
    """Remove the parts that killed processes have left in a folder; see `_is_abandoned`."""
    with suppress(OSError):
        for path in folder.iterdir():
            if match := _PART.fullmatch(path.name):
                with suppress(OSError):
                    if _is_abandoned(path, match[1], int(match[2])):
                        remove(path)


def _is_abandoned(path: Path, space: str, process: int) -> bool:
    """Return whether no process of this machine has the number, or nothing changed for a day.

    Whether a process of another machine, of another container or from before a restart still writes
    is not known. A number in use may belong to another program, and then the part waits.
    """
    if space == _process_space():
        try:
            os.kill(process, 0)
        except OSError as error:  # no such process, or one of another user
            return isinstance(error, ProcessLookupError)
        return False
    changed = max(one.lstat().st_mtime for one in (path, *path.rglob("*")))
    return time.time() - changed > DAY


def remove_parts(folder: Path) -> None:
    """Remove all parts in a folder whose only writer is this process, because it holds a lock."""
    for path in [path for path in folder.rglob(".*.part") if _PART.fullmatch(path.name)]:
        remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, as far as that is possible."""
    with suppress(OSError):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
