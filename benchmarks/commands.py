"""The time of whole commands on finished runs and slices: python -m benchmarks.commands

Trains the main job and two more conditions on the embedded data, draws a phantom of 300 slices, and
writes 24 made runs; then each command runs as a process of its own. Processor seconds, unlike
seconds, hardly depend on other work on the machine. What was prepared is kept in `--folder`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reports import write_runs
from benchmarks.rounds import in_new_process
from benchmarks.tables import show
from benchmarks.timing import spread

TRAINED = ("two_stage", "scratch", "natural")  # natural finds the first source of two_stage
RATIOS, SEEDS = (0.2, 1.0), 3  # of the made runs: 24, with four conditions
# Of each command its words, and the folder that it writes.
COMMANDS = {
    "train, already finished": ("train +experiment=two_stage paths.outputs=trained", ""),
    "report, 24 runs": ("report made", "made/report"),
    "board, 24 runs": ("board made", "made/board"),
    "roc, 24 runs": ("roc made", "made/roc"),
    "visualize, 3 runs, 35 images": ("visualize trained --per-class 5", "trained/visualization"),
    "predict, a slice": ("predict {run} one --out prediction", "prediction"),
    "extract, 300 slices": (
        "extract phantom/slices --annotations phantom/truth --labels phantom/labels.csv"
        " --field 18 --out patches",
        "patches",
    ),
    "export": ("export {run} --out exported", "exported"),
}


def main() -> None:
    """Prepare what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("outputs/commands"))
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    options = parser.parse_args()
    folder = options.folder.resolve()
    rows = list(_prepare(folder))
    run = next(folder.glob("trained/runs/two_stage-*"))
    for name in options.only:
        words, written = COMMANDS[name]
        measured = []
        for _ in range(options.rounds):
            if written:  # in an earlier round
                shutil.rmtree(folder / written, ignore_errors=True)
            measured.append(_timed(shlex.split(words.format(run=run)), folder))
        rows.append(_row(name, measured))
    show(
        f"Commands: whole processes, {options.rounds} rounds",
        ("command", "seconds", "processor seconds"),
        rows,
    )


def _prepare(folder: Path) -> list[tuple[str, ...]]:
    """Make the runs and slices that are not there; the rows of what was trained."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for condition in TRAINED:
        if not [*folder.glob(f"trained/runs/{condition}-*/metrics.json")]:
            words = ["train", f"+experiment={condition}", "paths.outputs=trained"]
            rows.append(_row(" ".join(words[:2]), [_timed(words, folder)]))
    if not (folder / "phantom").is_dir():
        _timed(shlex.split("phantom phantom --patients 12 --slices 25"), folder)
        _timed(shlex.split("phantom one-phantom --patients 1"), folder)
        shutil.move(folder / "one-phantom/slices", folder / "one")
    if not (folder / "made").is_dir():
        in_new_process(write_runs, folder / "made", SEEDS, RATIOS)
    return rows


def _timed(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command; its seconds and processor seconds."""
    program = [sys.executable, "-m", "stagetransfer", *words]
    start = time.perf_counter()
    process = subprocess.Popen(program, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{shlex.join(words)}: exit code {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_utime + usage.ru_stime


def _row(name: str, measured: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    return (name, *(spread(values, 1) for values in zip(*measured, strict=True)))


if __name__ == "__main__":
    main()
