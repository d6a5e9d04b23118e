"""Whether speed costs quality: python -m benchmarks.quality

Trains the embedded target from scratch with the fast settings (the defaults) and the plain ones:
float32, contiguous memory, an optimiser that updates one tensor at a time, PyTorch's LRN,
convolutions and linear layers, and freed memory returned to the system. Each run of each seed has
its own process. Both are compared on the same test images, with intervals and paired differences
over seeds and patients as in `stagetransfer report`. Further overrides of train.py apply to both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from hydra import compose, initialize_config_dir

from benchmarks.rounds import in_new_process
from benchmarks.tables import show
from stagetransfer.config.validate import validate_config
from stagetransfer.models.accelerate import FASTER
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.study import Study

CONF = Path(__file__).parents[1] / "conf"
FIGURES = ("accuracy", "recall", "f1", "auroc", "cross_entropy")
PLAIN = (
    *("trainer.precision=32-true", "trainer.channels_last=false", "trainer.winograd=false"),
    "trainer.keep_memory=false",
    *("recipe.optimizer.fused=false", "+recipe.optimizer.foreach=false"),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py, for both")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shared = [f"paths.outputs={folder}", *options.overrides]
        for seed in range(options.seeds):
            in_new_process(_train, [*shared, "condition=fast", f"seed={seed}"])
            in_new_process(_train_plain, [*shared, "condition=plain", f"seed={seed}", *PLAIN])
        runs, _ = read_runs(find_runs([Path(folder)]))
        study = Study(runs)
        speeds = {
            name: [run.stages[-1]["images_per_second"] for run in study.at(name)]
            for name in ("fast", "plain")
        }
    _show(study, speeds)


def _show(study: Study, speeds: dict[str, list[float]]) -> None:
    (pair,) = study.pairs(study.main_ratio, FIGURES)
    sign = 1 if pair.a == "fast" else -1
    rows = []
    for figure in FIGURES:
        fast, plain = (study.interval(name, study.main_ratio, figure) for name in speeds)
        difference = pair.metrics[figure]
        ends = sorted((sign * difference.low + 0, sign * difference.high + 0))
        rows.append(
            (
                figure,
                f"{fast.estimate:.4f} [{fast.low:.4f}, {fast.high:.4f}]",
                f"{plain.estimate:.4f} [{plain.low:.4f}, {plain.high:.4f}]",
                f"{sign * difference.estimate + 0:+.4f} [{ends[0]:+.4f}, {ends[1]:+.4f}]",
            )
        )
    medians = [statistics.median(values) for values in speeds.values()]
    ratio = f"x {medians[0] / medians[1]:.2f}"
    fast_speed, plain_speed = (f"{value:.0f}" for value in medians)
    rows.append(("images/s of the training", fast_speed, plain_speed, ratio))
    title = (
        f"The embedded target from scratch, seeds {study.seeds}, {len(study.ids)} test images of "
        f"{study.num_groups} patients, 95 % intervals"
    )
    show(title, ("figure", "fast", "plain", "fast - plain"), rows)


def _train(overrides: Sequence[str]) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = validate_config(compose("config", ["+experiment=scratch", *overrides]))
    ChainRunner(settings).run()


def _train_plain(overrides: Sequence[str]) -> None:
    with mock.patch.dict(FASTER, clear=True):
        _train(overrides)


if __name__ == "__main__":
    main()
