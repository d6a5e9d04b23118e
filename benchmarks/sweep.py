"""What a sweep costs beside its trainings: python -m benchmarks.sweep

Runs 4 conditions x 3 ratios x 2 seeds on the embedded data in a fresh folder, and compares its wall
time with the sum of what had to be trained (each target once, each distinct source once), and with
what the runs would cost one by one, each training its own sources.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.timing import machine

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratios", default="0.2,0.6,1.0")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("overrides", nargs="*", help="more of train.py's overrides")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "train.py", "-m"),
            "+experiment=scratch,natural,texture,two_stage",
            f"ratio={arguments.ratios}",
            f"seed={arguments.seeds}",
            f"paths.outputs={folder}",
            *arguments.overrides,
        ]
        began = time.perf_counter()
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - began
        runs = [json.loads(path.read_text()) for path in Path(folder).glob("runs/*/metrics.json")]
    trained = {stage["key"]: stage["seconds"] for run in runs for stage in run["stages"]}
    once = sum(trained.values())
    alone = sum(stage["seconds"] for run in runs for stage in run["stages"])
    table = Table(title=f"{len(runs)} runs, {len(trained) - len(runs)} distinct source stages")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    table.add_column("of the trainings", justify="right")
    for name, seconds in (
        ("trainings, each distinct one once", once),
        ("the sweep, start to end", wall),
        ("trainings of independent runs", alone),
    ):
        table.add_row(name, f"{seconds:.0f}", f"{seconds / once:.2f}")
    console = Console()
    console.print(table)
    console.print(f"saved against independent runs: {1 - wall / alone:.0%}")
    console.print(machine(), soft_wrap=True)


if __name__ == "__main__":
    main()
