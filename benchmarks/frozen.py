"""Time per epoch for each tuning depth: python -m benchmarks.frozen

Trains layer-wise configurations on the embedded target from a network with random weights. The
frozen layers are computed once per image, and for comparison again in each epoch. The time of an
epoch is that between two lines of the log: training, validation and checkpoint. The first epoch is
not counted.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.tables import show
from benchmarks.timing import spread
from stagetransfer.models import AlexNet, initialise

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--depths", default="fc8,fc7,fc6,conv1", help="tuning depths; the last is the baseline"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=227, help="side of the input in pixels")
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py")
    arguments = parser.parse_args()
    if arguments.epochs < 2:
        parser.error("--epochs must be 2 or more")
    depths = arguments.depths.split(",")
    seconds: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pt"
        network = AlexNet(10, input_size=arguments.size)
        initialise(network, "kaiming", generator=torch.Generator().manual_seed(0))
        torch.save(network.state_dict(), weights)
        for depth in depths:
            for once in (True, False) if depth != "conv1" else (False,):
                command = [
                    *(sys.executable, "-u", "train.py", "+experiment=layerwise"),
                    *(f"transfer.tune_from={depth}", f"model.input_size={arguments.size}"),
                    *("domain/natural=pretrained", f"domain.natural.weights={weights}"),
                    *(f"recipe.epochs={arguments.epochs}", "recipe.patience=null"),
                    *("recipe.balance=none", f"trainer.frozen_features_gib={16 if once else 0}"),
                    *(f"paths.outputs={folder}", "force=true", *arguments.overrides),
                ]
                seconds[depth, once] = _epochs(command)
    base = statistics.median(seconds[depths[-1], False])
    rows = []
    for (depth, once), values in seconds.items():
        how = "-" if depth == "conv1" else "once per image" if once else "each epoch"
        tuned = "only fc8" if depth == "fc8" else f"{depth}-fc8"
        rows.append((tuned, how, spread(values), f"{base / statistics.median(values):.1f}"))
    columns = ("tuned", "frozen layers", "seconds: median (least-greatest)", "times faster")
    show(f"Seconds an epoch after the first, input {arguments.size}", columns, rows)


def _epochs(command: list[str]) -> list[float]:
    """Return the seconds between the log lines of successive epochs."""
    ends = []
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "target epoch" in line:
                ends.append(time.perf_counter())
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return [after - before for before, after in itertools.pairwise(ends)]


if __name__ == "__main__":
    main()
