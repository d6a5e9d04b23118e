"""What a sweep costs besides its trainings: python -m benchmarks.sweep

Runs 4 conditions x 3 ratios x 2 seeds on the embedded data in a new folder. Compares the wall time
with the sum of the trainings (each target once, each distinct source stage once), and with the sum
for independent runs that each train their own sources.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tables import show

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratios", default="0.2,0.6,1.0")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py")
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
        start = time.perf_counter()
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        runs = [json.loads(path.read_text()) for path in Path(folder).glob("runs/*/metrics.json")]
    trained = {stage["key"]: stage["seconds"] for run in runs for stage in run["stages"]}
    once = sum(trained.values())
    independent = sum(stage["seconds"] for run in runs for stage in run["stages"])
    rows = [
        (name, f"{seconds:.0f}", f"{seconds / once:.2f}")
        for name, seconds in (
            ("trainings, each distinct one once", once),
            ("the sweep, from start to end", wall),
            ("trainings of independent runs", independent),
        )
    ]
    title = f"{len(runs)} runs, {len(trained) - len(runs)} distinct source stages"
    saved = f"Saved in comparison with independent runs: {1 - wall / independent:.0%}"
    show(title, ("part", "seconds", "of the trainings"), rows, saved)


if __name__ == "__main__":
    main()
