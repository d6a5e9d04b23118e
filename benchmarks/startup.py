"""The time until a command answers, as whole processes: python -m benchmarks.startup

Every command here ends at once, with its answer or with one line about bad input. A first round is
not counted, so the files are in the file system's cache. Processor seconds, unlike seconds, hardly
depend on other work on the machine.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.tables import show
from benchmarks.timing import spread, time_in_turn

REPOSITORY = Path(__file__).parents[1]
COMMANDS = (
    "stagetransfer --help",
    "stagetransfer --version",
    "python train.py ratio=1.7",
    "python train.py +experiment=typo",
    "python train.py +experiment=two_stage domain/target=folder domain.target.root=/no/such/folder",
    "stagetransfer report /no/such",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    measure(parser.parse_args().rounds)


def measure(rounds: int) -> None:
    """Print the table of all commands."""
    codes: dict[str, set[int]] = {command: set() for command in COMMANDS}
    processor: dict[str, list[float]] = {command: [] for command in COMMANDS}

    def run(command: str, folder: str) -> None:
        program, *arguments = shlex.split(command)
        path = sys.executable if program == "python" else Path(sys.executable).parent / program
        if program == "python":
            arguments.append(f"paths.outputs={folder}")
        before = _processor_seconds()
        done = subprocess.run([path, *arguments], cwd=REPOSITORY, capture_output=True)
        processor[command].append(_processor_seconds() - before)
        codes[command].add(done.returncode)

    with tempfile.TemporaryDirectory() as folder:
        runs = {command: lambda c=command: run(c, folder) for command in COMMANDS}
        seconds = time_in_turn(runs, rounds)
    rows = []
    for command, values in seconds.items():
        exit_codes = ", ".join(map(str, sorted(codes[command])))
        cpu = processor[command][1:]  # as for the seconds, without the first round
        rows.append((f"`{command}`", exit_codes, spread(values, 2), spread(cpu, 2)))
    title = f"Start-up: whole processes, {rounds} rounds"
    show(title, ("command", "exit code", "seconds", "processor seconds"), rows)


def _processor_seconds() -> float:
    """Return the processor time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
