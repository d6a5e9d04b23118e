"""A signal ends a command with one line and the exit code 128 + n, after cleaning up."""

import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RETRY = 0.02  # seconds
UNSAFE = ((queue.__file__, "put"), (threading.__file__, "notify"))


class Interrupted(SystemExit):
    """A signal has arrived. No `except Exception` stops it, and `finally` blocks run."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name
        self.was_reported = False


@contextmanager
def interruptible(what_is_kept: str, *, silent: bool = False) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP within the block into one line and an exit code.

    A second signal ends the process at once. SIGHUP stays ignored under nohup. `what_is_kept` ends
    the line: a sentence on what is left and how to continue. With `silent` there is none, because
    another process prints one.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        if _in_queue(frame):
            threading.Timer(RETRY, os.kill, (os.getpid(), number)).start()
            return
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        raise Interrupted(number)

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    except Interrupted as stopped:
        if not (stopped.was_reported or silent):
            print(f"stopped by {stopped.signal}. {what_is_kept}", file=sys.stderr, flush=True)
        stopped.was_reported = True
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_queue(frame: FrameType | None) -> bool:
    """Return whether a queue is being filled, which an exception could leave without its reader.

    Its reader would never be notified again, and closing TensorBoard's writer would wait for ever.
    """
    while frame is not None:
        if (frame.f_code.co_filename, frame.f_code.co_name) in UNSAFE:
            return True
        frame = frame.f_back
    return False
