"""How reliably a recipe trains: python -m benchmarks.stability --seeds 10 --data SHARED_DATA

Trains sources and scratch, never a condition with a source, with many seeds and precisions. The
table has one row per set and precision: macro recall on the validation images (mean and least over
the seeds), and how many trainings are not above chance on validation and test images. A killed
measurement continues; stages and runs that the outputs folder has already are read and not trained
again. Further overrides of train.py apply to every training.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from benchmarks.tables import show
from stagetransfer.api import load_runs
from stagetransfer.config.validate import validate_config
from stagetransfer.files import read_json
from stagetransfer.pipeline.chain import ChainRunner

CONF = Path(__file__).parents[1] / "conf"
SOURCES = {
    "natural": "[natural]",
    "texture": "[texture]",
    "texture after natural": "[natural,texture]",
}


@dataclass(frozen=True)
class Cell:
    """One kind of training: a name, and what it overrides."""

    name: str
    overrides: tuple[str, ...]


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--data", type=Path, help="folder with natural/, texture/ and lung_ct/")
    parser.add_argument("--only", nargs="+", help="names of sets; without it, all of them")
    parser.add_argument("--outputs", default="outputs/stability")
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py")
    options = parser.parse_args()
    cells = [c for c in all_cells(options.data) if options.only is None or c.name in options.only]
    rows = []
    for cell in cells:
        for precision in options.precision:
            shared = (f"recipe={options.recipe}", f"trainer.precision={precision}")
            shared = (*shared, f"paths.outputs={options.outputs}", *options.overrides)
            entries = [trained((*shared, *cell.overrides), seed) for seed in range(options.seeds)]
            rows.append(_row(cell.name, precision, entries))
            show(f"{options.recipe}, torch {torch.__version__}", COLUMNS, rows[-1:])
    show(f"{options.recipe}, torch {torch.__version__}", COLUMNS, rows)


def all_cells(data: Path | None) -> list[Cell]:
    """Return the trainings on embedded data and, if the folder is given, on small real data."""
    cells = [Cell(name, (f"chain={chain}",)) for name, chain in SOURCES.items()]
    cells += [Cell(f"target, r = {r}", ("chain=[target]", f"ratio={r}")) for r in (1.0, 0.2)]
    if data is None:
        return cells
    natural: tuple[str, ...]
    target: tuple[str, ...]
    natural = ("domain/natural=folder", f"domain.natural.root={data / 'natural'}")
    natural = (*natural, "+domain.natural.options.max_classes=20")
    texture = ("domain/texture=folder", f"domain.texture.root={data / 'texture'}")
    target = ("domain/target=csv", f"domain.target.root={data / 'lung_ct'}")
    target = (*target, "domain.target.fit=stretch", "chain=[target]")
    return [
        *cells,
        Cell("Tiny ImageNet", ("chain=[natural]", *natural)),
        Cell("DTD", ("chain=[texture]", *texture)),
        *(Cell(f"lung_ct, r = {r}", (*target, f"ratio={r}")) for r in (1.0, 0.2)),
    ]  # fmt: skip


def trained(overrides: Sequence[str], seed: int) -> dict[str, Any]:
    """Train one cell with one seed unless that was done, and return the record of its stage."""
    # A training that did not learn is what this table is looking for, so it is no error here.
    accept = [f"++stage.{name}.require_learning=false" for name in ("natural", "texture")]
    seeds = [f"seed={seed}", f"source_seed={seed}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[*overrides, *seeds, *accept])
    runner = ChainRunner(validate_config(cfg))
    folder = runner.run()
    if not runner.has_target:
        return dict(read_json(folder / "stage.json")["stages"][-1])
    (run,) = load_runs(folder)  # whose verdict counts the test images too
    stage = dict(run.stages[-1])
    return stage | {"health": {**stage["health"], "learned": run.learned}}


COLUMNS = (
    *("set", "precision", "trainings", "chance", "recall", "least", "least low", "not learned"),
    *("first loss - ln K", "largest loss"),
)


def _row(name: str, precision: str, entries: Sequence[dict[str, Any]]) -> list[str]:
    health = [entry["health"] for entry in entries]
    recalls = [one["recall"] for one in health]
    first = max(abs(one["first_loss"] - one["chance_loss"]) for one in health)
    return [
        *(name, precision, str(len(health)), f"{health[0]['chance']:.3f}"),
        *(f"{sum(recalls) / len(recalls):.3f}", f"{min(recalls):.3f}"),
        f"{min(one['low'] for one in health):.3f}",
        str(sum(not one["learned"] for one in health)),
        *(f"{first:.2f}", f"{max(one['largest_loss'] for one in health):.2f}"),
    ]


if __name__ == "__main__":
    main()
