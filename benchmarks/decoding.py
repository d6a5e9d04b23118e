"""Photos that are decoded in each pass or read from the disk cache: python -m benchmarks.decoding

Speeds are images per processor second of one thread, which other work on the machine hardly
changes. The first table shows the loader alone, the second a test, and beside it the network alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import candidates
from benchmarks.candidates import Case
from benchmarks.networks import ALEXNETS
from benchmarks.sets import KINDS, make
from benchmarks.tables import show
from benchmarks.timing import paired_ratio, spread, time_in_turn
from stagetransfer.config.schema import Trainer
from stagetransfer.data import DomainDataModule
from stagetransfer.training.fit import build_trainer
from stagetransfer.training.machine import keep_freed_memory, quiet_lightning


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__)
    parser.add_argument("--network", nargs="+", choices=ALEXNETS, default=list(ALEXNETS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=128, help="images per round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    candidates.WORKERS = 0  # the processor seconds of other processes would not be counted
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        make(KINDS["photos"], root, 8, options.images)
        for network in options.network:
            _measure(Case(network, "photos", root, 64, options.images), options.rounds)


def _measure(case: Case, rounds: int) -> None:
    ways = {"decoding": case, "disk cache": replace(case, cached=True)}
    sets = {name: candidates._data(way) for name, way in ways.items()}
    _show("loader alone", case, rounds, {name: partial(_load, data) for name, data in sets.items()})
    module = candidates._module(case).eval()
    images, _ = candidates._fixed(case)

    def test(data: DomainDataModule) -> None:
        trainer = build_trainer(Trainer(precision=case.precision), logger=False, callbacks=[])
        with quiet_lightning():
            trainer.test(module, datamodule=data, verbose=False)

    def alone() -> None:
        with torch.inference_mode():
            for _ in range(case.images // case.batch):
                module(images)

    tests = {name: partial(test, data) for name, data in sets.items()}
    _show("test", case, rounds, {**tests, "network alone": alone})


def _load(data: DomainDataModule) -> None:
    data.trainer = None
    for _ in data.test_dataloader():
        pass


def _show(title: str, case: Case, rounds: int, runs: Mapping[str, Callable[[], None]]) -> None:
    seconds = time_in_turn(runs, rounds, time.process_time)
    last = list(seconds.values())[-1]
    rows = [
        (name, spread([case.images / one for one in own], 1), f"{paired_ratio(last, own):.2f}")
        for name, own in seconds.items()
    ]
    columns = ("images", "images per processor second", "of the last row")
    show(f"Photos, {case.network}, input {case.size}: {title}, {rounds} rounds", columns, rows)


if __name__ == "__main__":
    main()
