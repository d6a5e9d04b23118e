"""The time to compare many finished runs: python -m benchmarks.reports --seeds 50

Writes the runs of four conditions, five ratios and some seeds (50: 1,000 runs), each with the
predictions of 232 test images in seven classes and the curve of 30 epochs, without any training.
Then runs `board` twice, `report` and `roc`, each in a new process with the imports already made.
Processor seconds, unlike seconds, hardly depend on other work on the machine.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from benchmarks.rounds import in_new_process
from benchmarks.tables import show
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.names import CONDITIONS
from stagetransfer.runs.predictions import Predictions
from stagetransfer.runs.writer import write_result
from stagetransfer.synthetic.lung import CLASSES

RATIOS = (0.2, 0.4, 0.6, 0.8, 1.0)
IMAGES, PATIENTS, EPOCHS = 232, 60, 30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="3: 60 runs")
    parser.add_argument("--folder", type=Path, help="where the runs are kept; default: temporary")
    parser.add_argument("--commands", nargs="+", default=["board", "board again", "report", "roc"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        outputs = options.folder or Path(name)
        if not (outputs / "runs").is_dir():
            in_new_process(write_runs, outputs, options.seeds)
        rows = []
        for command in options.commands:
            seconds, processor = in_new_process(_timed, command.split()[0], outputs)
            rows.append((command, f"{seconds:.1f}", f"{processor:.1f}"))
        count = sum(1 for _ in outputs.glob("runs/*/metrics.json"))
    show(f"{count} runs", ("command", "seconds", "processor seconds"), rows)


def _timed(command: str, outputs: Path) -> tuple[float, float]:
    """Run a command and return its seconds and its processor seconds."""
    from stagetransfer.cli.roc import roc
    from stagetransfer.reporting import make_report
    from stagetransfer.reporting.tensorboard_board import write_board

    start = time.perf_counter(), time.process_time()
    match command:
        case "board":
            write_board(outputs)
        case "report":
            make_report([outputs])
        case "roc":
            with redirect_stdout(io.StringIO()):
                roc([outputs])
    return time.perf_counter() - start[0], time.process_time() - start[1]


def write_runs(outputs: Path, seeds: int, ratios: Sequence[float] = RATIOS) -> None:
    """Write made runs of four conditions, these ratios and so many seeds."""
    for chain, condition in CONDITIONS.items():
        with initialize_config_module("stagetransfer.conf", version_base="1.3"):
            config = compose("config", overrides=[f"+experiment={condition}"])
        tree = OmegaConf.to_container(config)
        assert isinstance(tree, dict)
        tree["domain"] = {name: tree["domain"][name] for name in chain}
        for ratio, seed in product(ratios, range(seeds)):
            folder = (
                outputs
                / "runs"
                / f"{condition}-r{ratio:g}-s{seed}-{list(CONDITIONS).index(chain):08x}"
            )
            folder.mkdir(parents=True)
            tree |= {"condition": condition, "ratio": ratio, "seed": seed}
            (folder / "config.yaml").write_text(OmegaConf.to_yaml(tree))
            _write_run(folder, chain, condition, ratio, seed)


def _write_run(
    folder: Path, chain: tuple[str, ...], condition: str, ratio: float, seed: int
) -> None:
    random = np.random.default_rng([list(CONDITIONS).index(chain), round(100 * ratio), seed])
    skill = 1 + ratio + len(chain) / 4
    stages = [
        {
            "name": name,
            "key": folder.name if name == chain[-1] else f"{name}{i}",
            "reused": name != chain[-1] and seed > 0,
            "epochs": EPOCHS,
            "seconds": 100.0,
            "images_per_second": 100.0,
            "carried": [f"{layer}.weight" for layer in LAYERS],
            "validation": {"accuracy": 0.8, "recall": 0.8},
            "fingerprint": name,
        }
        for i, name in enumerate(chain)
    ]
    write_result(
        folder,
        place={
            "condition": condition,
            "chain": list(chain),
            "ratio": ratio,
            "seed": seed,
            "source_seed": 0,
        },
        tested=_predictions(random, IMAGES, skill),
        validated=_predictions(random, IMAGES // 2, skill),
        data={
            "num_train": round(500 * ratio),
            "num_train_per_class": {name: round(70 * ratio) for name in CLASSES},
            "splits": None,
        },
        stages=stages,
    )
    curve = np.linspace(0.3, 0.9, EPOCHS) + random.normal(0, 0.02, EPOCHS)
    table = pd.DataFrame(
        {
            "epoch": range(EPOCHS),
            "step": range(9, 10 * EPOCHS, 10),
            "train/cross_entropy": np.nan,
            "validation/accuracy": curve,
            "validation/cross_entropy": 1.2 - curve,
        }
    )
    trained = table[["epoch", "step"]].assign(**{"train/cross_entropy": 1.0})
    logs = folder / "logs" / f"{len(chain)}-{chain[-1]}"
    logs.mkdir(parents=True)
    pd.concat([trained, table]).sort_values("epoch", kind="stable").to_csv(
        logs / "metrics.csv", index=False
    )


def _predictions(random: np.random.Generator, images: int, skill: float) -> Predictions:
    labels = np.arange(images) % len(CLASSES)
    scores = random.normal(size=(images, len(CLASSES)))
    scores[np.arange(images), labels] += skill
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    ids = [f"test/{CLASSES[label]}/{i:04d}" for i, label in enumerate(labels)]
    groups = [f"p{i % PATIENTS:03d}" for i in range(images)]
    return Predictions(ids, groups, labels, probabilities, CLASSES)


if __name__ == "__main__":
    main()
