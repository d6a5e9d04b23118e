"""The time until `stagetransfer serve` answers on 60 runs: python -m benchmarks.serve

Each round starts the command as a new process, waits for its address, and loads the overview with
all its figures. Processor seconds, unlike seconds, hardly depend on other work on the machine.
"""

from __future__ import annotations

import argparse
import resource
import signal
import subprocess
import sys
import tempfile
import time
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

from benchmarks.reports import write_runs
from benchmarks.rounds import in_new_process
from benchmarks.tables import show
from benchmarks.timing import spread


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        in_new_process(write_runs, Path(folder), 3)
        found = [_start(folder) for _ in range(rounds + 1)][1:]
    columns = ("address, s", "overview, s", "overview, processor s")
    cells = [spread(values, 2) for values in zip(*found, strict=True)]
    show(f"serve: 60 runs, {rounds} rounds", columns, [cells])


def _start(folder: str) -> tuple[float, float, float]:
    """Return the seconds until the address and the overview, and the processor seconds of all."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "stagetransfer", "serve", folder]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        printed = time.perf_counter() - start
        page = build_opener(HTTPCookieProcessor(CookieJar())).open(address).read()
        loaded = time.perf_counter() - start
        assert b"Test accuracy by condition" in page
        server.send_signal(signal.SIGINT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return printed, loaded, sum(after[:2]) - sum(before[:2])  # user and system


if __name__ == "__main__":
    main()
