"""Candidates in separate processes that take turns.

Each candidate has its own memory, and all of them meet the same state of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from benchmarks.timing import synchronize

P = ParamSpec("P")
T = TypeVar("T")


class Gate:
    """The candidate's side: `for _ in gate: <one round>`, or `begin` and `end` in each round."""

    def __init__(self, connection: Connection, rounds: int) -> None:
        self.connection = connection
        self.rounds = rounds
        self._start = 0.0

    def begin(self) -> None:
        """Wait for the candidate's turn."""
        self.connection.send(None)
        self.connection.recv()
        synchronize()
        self._start = time.perf_counter()

    def end(self) -> None:
        """Report the seconds since `begin` and the greatest GPU memory so far, in bytes."""
        synchronize()
        seconds = time.perf_counter() - self._start
        device = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
        self.connection.send((seconds, device))

    def __iter__(self) -> Iterator[int]:
        for number in range(self.rounds):
            self.begin()
            yield number
            self.end()


Candidate = Callable[[Any, Gate], None]


@dataclass
class Measured:
    """The measurements of one candidate.

    Attributes:
        ready: seconds from the start of its process until it was ready for its first round.
        seconds: the duration of each round.
        memory: the greatest memory in bytes: on a CPU the proportional set size of the process and
            its children, on a GPU what torch has reserved; 0 where the system does not report it.
    """

    ready: float = 0.0
    seconds: list[float] = field(default_factory=list)
    memory: int = 0

    def speeds(self, images: int) -> list[float]:
        """Return the images per second of each round."""
        return [images / seconds for seconds in self.seconds]


def take_turns(candidates: Mapping[str, tuple[Candidate, Any]], rounds: int) -> dict[str, Measured]:
    """Run each candidate with its argument, after one round of each that is not counted."""
    context = get_context("spawn")
    result = {name: Measured() for name in candidates}
    processes, connections = [], {}
    try:
        for name, (candidate, argument) in candidates.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(candidate, argument, theirs, rounds + 1))
            start = time.perf_counter()
            process.start()
            theirs.close()
            processes.append(process)
            connections[name] = ours
            _receive(name, ours)
            result[name].ready = time.perf_counter() - start
        for number in range(rounds + 1):
            for process, (name, connection) in zip(processes, connections.items(), strict=True):
                connection.send(None)
                # Reading the shared memory of processes costs time: only in the uncounted round.
                while not number and not connection.poll(0.2):
                    result[name].memory = max(result[name].memory, resident(process.pid))
                seconds, device = _receive(name, connection)
                result[name].memory = max(result[name].memory, device)
                if number:
                    result[name].seconds.append(seconds)
                if number < rounds:
                    _receive(name, connection)
        for process in processes:
            process.join(60)
    finally:
        for process in processes:
            process.terminate()
    return result


def in_new_process(run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a new process and return its result."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(run, *args, **kwargs).result()


def resident(pid: int | None) -> int:
    """Return the bytes of a process and its children; memory shared by n counts 1/n in each."""
    if torch.cuda.is_available():
        return 0
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        size = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except (OSError, StopIteration):  # the process has just ended, or this is not Linux
        return 0
    return size + sum(resident(int(child)) for child in children)


def _run(candidate: Candidate, argument: Any, connection: Connection, rounds: int) -> None:
    # A spawned process would also spawn its DataLoader workers: seconds of imports in each test.
    set_start_method(None, force=True)
    candidate(argument, Gate(connection, rounds))


def _receive(name: str, connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        raise RuntimeError(f"{name}: its process ended early, see the output above") from None
