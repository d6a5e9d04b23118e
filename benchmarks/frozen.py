"""Time per epoch for each tuning depth: python -m benchmarks.frozen

Trains layer-wise configurations on the embedded target from a network with random weights. The
frozen blocks are computed once per image, and for comparison again in each epoch. The time of an
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
from hydra import compose, initialize_config_module

from benchmarks.tables import show
from benchmarks.timing import spread
from stagetransfer.config.validate import validate_config
from stagetransfer.models import build_backbone

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--depths", default="", help="tuning depths; the last is the baseline. Default: head, all"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--model", default="paper", help="an option of the group model")
    parser.add_argument("--size", type=int, default=227, help="side of the input in pixels")
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py")
    arguments = parser.parse_args()
    if arguments.epochs < 2:
        parser.error("--epochs must be 2 or more")
    seconds: dict[tuple[str, bool], list[float]] = {}
    chosen = [f"model={arguments.model}", f"model.input_size={arguments.size}"]
    with initialize_config_module("stagetransfer.conf", version_base="1.3"):
        model = validate_config(compose("config", chosen)).model
    network = build_backbone(model, 10)
    first, head = network.blocks[0], network.blocks[-1]
    depths = arguments.depths.split(",") if arguments.depths else [head, first]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pt"
        network.initialise(model.initialisation, 0)
        torch.save(network.state(), weights)
        for depth in depths:
            for once in (True, False) if depth != first else (False,):
                command = [
                    *(sys.executable, "-u", "train.py", "+experiment=layerwise", *chosen),
                    *(
                        f"transfer.tune_from={depth}",
                        "model.initialisation=" + model.initialisation,
                    ),
                    *("domain/natural=pretrained", f"domain.natural.weights={weights}"),
                    *(
                        f"recipe.epochs={arguments.epochs}",
                        "recipe.min_steps=0",
                        "recipe.patience=null",
                    ),
                    *("recipe.balance=none", f"trainer.frozen_features_gib={16 if once else 0}"),
                    *(f"paths.outputs={folder}", "force=true", *arguments.overrides),
                ]
                seconds[depth, once] = _epochs(command)
    base = statistics.median(seconds[depths[-1], False])
    rows = []
    for (depth, once), values in seconds.items():
        how = "-" if depth == first else "once per image" if once else "each epoch"
        tuned = f"only {head}" if depth == head else f"{depth}-{head}"
        rows.append((tuned, how, spread(values), f"{base / statistics.median(values):.1f}"))
    columns = ("tuned", "frozen blocks", "seconds: median (least-greatest)", "times faster")
    title = f"Seconds an epoch after the first, {arguments.model}, input {arguments.size}"
    show(title, columns, rows)


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
