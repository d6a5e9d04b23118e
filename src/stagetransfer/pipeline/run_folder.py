"""A run's folder: where the run is written, why it failed, and what remains once it is finished."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stagetransfer.errors import UserError, cause, disk_fault
from stagetransfer.files import located, read_json, replace_folder, write_text
from stagetransfer.pipeline.stage_store import tidy
from stagetransfer.runs.reader import is_finished


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
