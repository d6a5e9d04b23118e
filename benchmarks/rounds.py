"""Candidates in processes of their own, which take turns: each has its own memory, all meet the
same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch


class Gate:
    """A candidate's side. `for _ in gate: <one round>`, or `begin` and `end` around each round."""

    def __init__(self, connection: Connection, rounds: int) -> None:
        self.connection = connection
        self.rounds = rounds
        self._began = 0.0

    def begin(self) -> None:
        """Waits for the candidate's turn."""
        self.connection.send(None)
        self.connection.recv()
        _finish()
        self._began = time.perf_counter()

    def end(self) -> None:
        """Tells the seconds since `begin`, and what the accelerator's memory has reached."""
        _finish()
        seconds = time.perf_counter() - self._began
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
    """What one candidate took: seconds a round, to be ready, and bytes at most.

    `memory` is the proportional set size of the process and its children on the CPU, and what
    torch has reserved on a GPU where there is one; 0 where the system does not tell.
    """

    ready: float = 0.0
    seconds: list[float] = field(default_factory=list)
    memory: int = 0

    def speeds(self, images: int) -> list[float]:
        """Images a second in each round."""
        return [images / seconds for seconds in self.seconds]


def take_turns(candidates: Mapping[str, tuple[Candidate, Any]], rounds: int) -> dict[str, Measured]:
    """Runs each candidate with its argument; a first round of each is not counted."""
    context = get_context("spawn")
    result = {name: Measured() for name in candidates}
    processes, connections = [], {}
    try:
        for name, (candidate, argument) in candidates.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(candidate, argument, theirs, rounds + 1))
            began = time.perf_counter()
            process.start()
            theirs.close()
            processes.append(process)
            connections[name] = ours
            _receive(name, ours)
            result[name].ready = time.perf_counter() - began
        for number in range(rounds + 1):
            for process, (name, connection) in zip(processes, connections.items(), strict=True):
                connection.send(None)
                # Reading what processes share costs time: only in the round that is not counted.
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


def speed(values: Sequence[float]) -> str:
    """The median, and the least and greatest, of images a second."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _run(candidate: Candidate, argument: Any, connection: Connection, rounds: int) -> None:
    # A spawned process would spawn its DataLoader workers too: seconds of imports in each test.
    set_start_method(None, force=True)
    candidate(argument, Gate(connection, rounds))


def _receive(name: str, connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        raise RuntimeError(f"{name}: its process ended before its time, see above") from None


def resident(pid: int | None) -> int:
    """Bytes of a process and its children; memory that n processes share counts 1/n in each."""
    if torch.cuda.is_available():
        return 0
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        size = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except (OSError, StopIteration):  # it has just ended, or this is no Linux
        return 0
    return size + sum(resident(int(child)) for child in children)


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
