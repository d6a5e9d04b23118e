"""Whether speed costs quality: python -m benchmarks.quality

Trains the embedded target from scratch with the fast settings (the defaults) and the plain ones:
float32, contiguous memory, an optimiser that updates one tensor at a time, PyTorch's LRN,
convolutions and linear layers, and freed memory returned to the system. Each run of each seed has
its own process. All are compared on the same test images, with intervals and paired differences
over seeds and patients as in `stagetransfer report`. Further overrides of train.py apply to all.

Another rounding leads to another training, so two controls say what speed itself changes: plain
settings in the other order of memory, which differ from plain in their rounding alone, and the
weights that the fast settings trained, tested with both kinds of operators.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from benchmarks.plain import make_plain
from benchmarks.rounds import in_new_process
from benchmarks.tables import show
from stagetransfer.config.validate import validate_config
from stagetransfer.models import Backbone
from stagetransfer.models.accelerate import FASTER
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.restore import RestoredRun, restore_runs
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.study import Study

CONF = Path(__file__).parents[1] / "conf"
FIGURES = ("accuracy", "recall", "f1", "auroc", "cross_entropy")
PLAIN = (
    *("trainer.precision=32-true", "trainer.winograd=false", "trainer.keep_memory=false"),
    *("recipe.optimizer.fused=false", "+recipe.optimizer.foreach=false"),
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py, for all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shared = [f"paths.outputs={folder}", *options.overrides]
        for seed in range(options.seeds):
            for name, train in TRAININGS.items():
                in_new_process(train, [*shared, f"condition={name}", f"seed={seed}"])
        runs, _ = read_runs(find_runs([Path(folder)]))
        study = Study(runs)
        show(
            f"The embedded target from scratch, seeds {study.seeds}, {len(study.ids)} test images "
            f"of {study.num_groups} patients, 95 % intervals",
            ("figure", *TRAININGS, "fast - plain", "channels_last - plain"),
            list(_trained(study)),
        )
        fast = [run for run in restore_runs([Path(folder)]) if run.condition == "fast"]
        columns = ("seed", "other class, images", "accuracy, points", "greatest probability")
        title = "Fast - plain operators with the weights that the fast settings trained"
        show(title, columns, [_same_weights(run) for run in fast])


def _trained(study: Study) -> Iterator[Sequence[str]]:
    """Yield a row for each figure, and one for the speed of the trainings."""
    ratio = study.main_ratio
    for figure in FIGURES:
        row = [figure]
        for name in TRAININGS:
            one = study.interval(name, ratio, figure)
            row.append(f"{one.estimate:.4f} [{one.low:.4f}, {one.high:.4f}]")
        for name in ("fast", "channels_last"):
            gap = study.pair(name, "plain", ratio, FIGURES).metrics[figure]
            row.append(f"{gap.estimate:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
        yield row
    speeds = [
        statistics.median(run.stages[-1]["images_per_second"] for run in study.at(name, ratio))
        for name in TRAININGS
    ]
    fast, plain, other = speeds
    ratios = f"x {fast / plain:.2f}", f"x {other / plain:.2f}"
    yield "images/s of the training", *(f"{speed:.0f}" for speed in speeds), *ratios


def _same_weights(run: RestoredRun) -> Sequence[str]:
    """Return the differences of a test with plain operators from one with fast operators."""
    fast, plain = run.network().to(memory_format=torch.channels_last), run.network()
    make_plain(plain)
    (a, labels), (b, _) = _test(run, fast), _test(run, plain)
    other = int((a.argmax(1) != b.argmax(1)).sum())
    right = [float((x.argmax(1) == labels).float().mean()) for x in (a, b)]
    greatest = float((a - b).abs().max())
    return str(run.seed), str(other), f"{100 * (right[0] - right[1]):+.2f}", f"{greatest:.1e}"


@torch.inference_mode()
def _test(run: RestoredRun, network: Backbone) -> tuple[Tensor, Tensor]:
    """Return the probabilities (n, C) and labels (n,) of a run's test images."""
    found, labels = [], []
    for batch in run.data.test_dataloader():
        found.append(network(run.data.to_input(batch.images)).double().softmax(1))
        labels.append(batch.labels)
    return torch.cat(found), torch.cat(labels)


def _train(overrides: Sequence[str]) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = validate_config(compose("config", ["+experiment=scratch", *overrides]))
    ChainRunner(settings).run()


def _train_plain(overrides: Sequence[str]) -> None:
    with mock.patch.dict(FASTER, clear=True):
        _train([*PLAIN, "trainer.channels_last=false", *overrides])


def _train_channels_last(overrides: Sequence[str]) -> None:
    with mock.patch.dict(FASTER, clear=True):
        _train([*PLAIN, "trainer.channels_last=true", *overrides])


TRAININGS = {"fast": _train, "plain": _train_plain, "channels_last": _train_channels_last}


if __name__ == "__main__":
    main()
