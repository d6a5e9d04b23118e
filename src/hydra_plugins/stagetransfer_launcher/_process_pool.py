"""Runs a list of commands as processes, at most one per slot at a time, and leaves none behind."""

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

SECONDS_BEFORE_SIGKILL = 10.0  # after SIGTERM


@dataclass(frozen=True)
class Command:
    """A program with its arguments, and the file that receives its stdout and stderr."""

    arguments: Sequence[str]
    output: Path


class ProcessPool:
    """Runs commands, each in a new process and session, one at a time in each slot.

    A slot is the environment variables that it adds, for example the one GPU that its jobs see.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]]) -> None:
        self.slots = slots
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()  # so that no process starts while all are being terminated
        self._stopped = False

    def run(
        self,
        commands: Sequence[Command],
        on_start: Callable[[int, int], None],
        on_end: Callable[[int, int], None],
    ) -> None:
        """Run all commands. Any exception, such as Ctrl-C, first terminates all processes.

        `on_start` gets the index of a command and of its slot, in the slot's thread, and `on_end`
        the index of a command and its exit code, which is -n if signal n killed the process.
        """
        free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(len(self.slots)):
            free.put(slot)

        def work(index: int) -> None:
            slot = free.get()
            try:
                process = self._start(commands[index], self.slots[slot])
                if process is None:
                    return
                on_start(index, slot)
                code = process.wait()
                with self._lock:
                    self._running.discard(process)
                if not self._stopped:
                    on_end(index, code)
            finally:
                free.put(slot)

        with ThreadPoolExecutor(len(self.slots)) as threads:
            try:
                for future in [threads.submit(work, i) for i in range(len(commands))]:
                    future.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self._terminate_all()
                raise

    def _start(self, command: Command, extra: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        """Start a process, or return None if all processes are being terminated."""
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
                start_new_session=True,  # Ctrl-C reaches only the launcher, which ends its jobs
            )
            self._running.add(process)
            return process

    def _terminate_all(self) -> None:
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_BEFORE_SIGKILL)
            # The session also holds the job's DataLoader workers, which may still be alive.
            _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
