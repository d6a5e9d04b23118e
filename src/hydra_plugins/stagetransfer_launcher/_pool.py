"""Processes side by side: as many at a time as there are slots, and none left behind."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GRACE = 10.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True)
class Command:
    """A program to run; stdout and stderr go to `output`."""

    arguments: Sequence[str]
    output: Path


class Pool:
    """Runs commands, each a fresh process in a session of its own, one at a time in each slot.

    Args:
        slots: what each slot adds to the environment, say the one device that its jobs see.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]]) -> None:
        self.slots = slots
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()  # no process may start while all are being ended
        self._stopped = False

    def run(
        self,
        commands: Sequence[Command],
        started: Callable[[int, int], None],
        ended: Callable[[int, int], None],
    ) -> None:
        """Runs all commands. Whatever interrupts it (Ctrl-C) first ends all processes.

        Args:
            started: called with a command's number and its slot's, in the slot's thread.
            ended: called with a command's number and exit code; -n: killed by signal n.
        """
        free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(len(self.slots)):
            free.put(slot)

        def work(number: int) -> None:
            slot = free.get()
            try:
                process = self._start(commands[number], self.slots[slot])
                if process is None:
                    return
                started(number, slot)
                code = process.wait()
                with self._lock:
                    self._running.discard(process)
                if not self._stopped:
                    ended(number, code)
            finally:
                free.put(slot)

        with ThreadPoolExecutor(len(self.slots)) as threads:
            try:
                for future in [threads.submit(work, i) for i in range(len(commands))]:
                    future.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self._end_all()
                raise

    def _start(self, command: Command, extra: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        command.output.parent.mkdir(parents=True, exist_ok=True)
        with command.output.open("wb") as output, self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                command.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **extra},
                start_new_session=True,  # Ctrl-C is for the launcher, which ends its jobs itself
            )
            self._running.add(process)
            return process

    def _end_all(self) -> None:
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            _signal(process, signal.SIGKILL)  # its workers too, who share its session


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
