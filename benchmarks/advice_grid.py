"""Whether advice comes true: python -m benchmarks.advice_grid DATA --seeds 3

DATA has natural/ (Tiny ImageNet), texture/ (DTD), and lung_ct/. For each of twelve targets,
`advise` ranks six candidates: random weights, three chains of generated sources, ImageNet weights,
and these after five classes of DTD. All candidates are then trained on all targets, and `advise
--judge` compares. The DTD targets have the other five classes. Tiny ImageNet's images are among
those that the ImageNet weights were trained on, which is unfair on these targets.
A killed measurement continues: what is finished is not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks.tables import show, with_interval
from stagetransfer.advise.judge import judgement, read_judged
from stagetransfer.api import train
from stagetransfer.cli.advise import advise

NETWORK = ("model=efficientnet_lite0", "recipe=quick", "model.input_size=64")
WEIGHTS = ("domain/natural=pretrained", "domain.natural.weights=efficientnet-lite0")
SOURCES = {
    "random": ("chain=[target]",),
    "natural": ("chain=[natural,target]",),
    "texture": ("chain=[texture,target]",),
    "natural, texture": ("chain=[natural,texture,target]",),
    "ImageNet": ("chain=[natural,target]", *WEIGHTS),
    "ImageNet, DTD": ("chain=[natural,texture,target]", *WEIGHTS),
}


def main() -> None:
    """Advise, train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--targets", nargs="+", help="names; without it, all of them")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/advice_grid"))
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py")
    options = parser.parse_args()
    outputs, shared = options.outputs, (*NETWORK, *options.overrides)
    dtd = _subset(options.data / "texture", outputs / "sets" / "dtd_source", slice(0, 5))
    texture = ("domain/texture=folder", f"domain.texture.root={dtd}")
    sources = SOURCES | {"ImageNet, DTD": (*SOURCES["ImageNet, DTD"], *texture)}
    targets = dict(_targets(options.data, outputs / "sets"))
    for name in options.targets or targets:
        target = targets[name]
        for candidate, words in sources.items():
            for seed in range(options.seeds):
                print(f"{name}: {candidate}, seed {seed}", flush=True)
                seeds = (f"seed={seed}", f"source_seed={seed}")
                # A source that did not learn is a candidate too; the probes should see that.
                accept = [f"++stage.{one}.require_learning=false" for one in ("natural", "texture")]
                every = (*shared, *target, *words, *seeds, *accept)
                train(overrides=every, outputs=outputs, verbose=False)
        where = outputs / "advise" / name
        if not (where / "advice.json").is_file():
            given = [str(outputs), "efficientnet-lite0"]
            advise([*shared, *target, *texture, f"paths.outputs={outputs}"], given, where)
    judged, lines = read_judged([outputs])
    print("\n".join(lines))
    table = judgement(judged)
    shown = [[str(row["ranked_by"]), str(row["targets"]), *_cells(row)] for row in _rows(table)]
    show("advice against what happened", COLUMNS, shown)


COLUMNS = ("ranked by", "targets", "weighted tau", "points lost", "within a standard deviation")


def _rows(table: pd.DataFrame) -> list[dict[str, float]]:
    return table.to_dict("records")  # type: ignore[return-value]


def _cells(row: dict[str, float]) -> list[str]:
    return [
        with_interval(row[key], row[f"{key}_low"], row[f"{key}_high"])
        for key in ("tau", "lost", "near")
    ]


def _targets(data: Path, sets: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of each target and its overrides."""
    for name, options in (
        ("embedded", "scale=0.5 seed=1"),
        ("embedded, few", "scale=0.2 seed=2"),
        ("embedded, coarse", "scale=0.5 seed=3 size=24"),
        ("embedded, few and coarse", "scale=0.2 seed=4 size=24"),
    ):
        words = (f"+domain.target.options.{option}" for option in options.split())
        yield name, tuple(words)
    for number in range(3):
        classes = slice(16 * number, 16 * number + 8)
        tiny = _subset(data / "natural", sets / f"tiny_{number}", classes)
        yield f"Tiny ImageNet {number + 1}", _folder(tiny)
        dtd = _subset(data / "texture", sets / f"dtd_{number}", slice(5 + number, 8 + number))
        yield f"DTD {number + 1}", _folder(dtd)
    table = pd.read_csv(data / "lung_ct" / "labels.csv", dtype=str)
    patients = sorted(set(table["patient"]))[::2]
    half = (sets / "lung_ct_half").resolve()
    if not half.exists():
        half.mkdir(parents=True)
        for folder in (path for path in (data / "lung_ct").iterdir() if path.is_dir()):
            (half / folder.name).symlink_to(folder.resolve())
        table[table["patient"].isin(patients)].to_csv(half / "labels.csv", index=False)
    for name, root in (("COVID-CT", data / "lung_ct"), ("COVID-CT, half", half)):
        csv = ("domain/target=csv", f"domain.target.root={root}", "domain.target.fit=stretch")
        yield name, csv


def _folder(root: Path) -> tuple[str, ...]:
    return "domain/target=folder", f"domain.target.root={root}"


def _subset(root: Path, folder: Path, classes: slice) -> Path:
    """Return a folder with links to some of the class folders of `root`."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for one in sorted(path for path in root.iterdir() if path.is_dir())[classes]:
            (folder / one.name).symlink_to(one.resolve())
    return folder.resolve()


if __name__ == "__main__":
    main()
