"""The project's own study, as docs/study.md lays down: python -m benchmarks.study DATA

DATA has texture/ (DTD) and lung_ct/ (COVID-CT). What is finished is not trained again, so a killed
study continues with the same command. With --report nothing is trained: the tables and the forest
plot are made of the runs that exist, and cells without all of their runs are named. Processes with
another --network each can train side by side. With --archives, results come from archives of that
folder where they exist there, and are added to them (`study_archive`).
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from benchmarks.study_archive import pack, unpack
from benchmarks.study_tables import (
    FIGURE,
    GROWTH,
    PRIMARY,
    RATIOS,
    SECONDARY,
    Difference,
    Summary,
    claims,
    differences,
    forest,
    load_network,
    save_table,
    summaries,
    trained,
    with_holm,
)
from benchmarks.tables import show
from stagetransfer.api import train
from stagetransfer.errors import UserError
from stagetransfer.figures import save_figure

LITE0 = ("model=efficientnet_lite0", "domain/natural=pretrained")
NETWORKS = {
    "AlexNet": ("model=paper",),
    "EfficientNet-Lite0": (*LITE0, "domain.natural.weights=efficientnet-lite0"),
}
CONDITIONS = ("scratch", "natural", "texture", "two_stage")
COLUMNS = (
    "network, target",
    "r",
    "difference",
    "95 % interval",
    "p",
    "Holm",
    "seeds",
    "not compared",
)
SUMMARY_COLUMNS = ("difference", "r", "cells", "mean", "95 % interval", "tau", "I2")


def main() -> None:
    """Train what is missing, then print the tables and write the forest plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("overrides", nargs="*", help="further overrides of train.py")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--outputs", type=Path, default=Path("outputs/study"))
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--archives", type=Path, help="folder with archives of results")
    options = parser.parse_args()
    targets = _targets(options.data)
    cells = list(product(NETWORKS, targets))
    for network in options.network if options.archives else ():
        for archive in sorted(options.archives.glob(f"{network}-seed*.tar.xz")):
            print(f"{archive}: {unpack(archive, options.outputs / network)} runs unpacked")
    if not options.report:
        # By seed, so that a study that is stopped has whole seeds.
        chosen = [cell for cell in cells if cell[0] in options.network]
        for seed, (network, target) in product(range(options.seeds), chosen):
            for condition, ratio in product(CONDITIONS, RATIOS):
                words = [*NETWORKS[network], "recipe=quick", "trainer.precision=32-true"]
                words += [*targets[target], f"ratio={ratio}", f"seed={seed}", f"source_seed={seed}"]
                print(f"{network}, {target}: {condition}, r = {ratio:g}, seed {seed}", flush=True)
                outputs = options.outputs / network
                try:
                    train(condition, [*words, *options.overrides], outputs=outputs, verbose=False)
                except UserError as error:  # the other runs are trained nevertheless
                    print(f"  failed: {error}", flush=True)
    for network in options.network if options.archives else ():
        runs = load_network(options.outputs, network)
        for seed in sorted({run.seed for run in runs}):
            folders = [run.folder for run in runs if run.seed == seed]
            pack(folders, options.archives / f"{network}-seed{seed}.tar.xz")
    rows = list(differences(options.outputs, cells))
    for pairs in (PRIMARY, SECONDARY):
        family = [row for row in rows if row.pair in pairs and row.r != GROWTH]
        corrected = with_holm(family, len(cells) * len(pairs) * len(RATIOS))
        show(f"{FIGURE}, points: {'primary' if pairs is PRIMARY else 'secondary'}", COLUMNS,
             [_shown(row, holm) for row, holm in corrected])  # fmt: skip
    show("random-effects summary over networks and targets", SUMMARY_COLUMNS,
         [_summary(one) for one in summaries(rows)])  # fmt: skip
    show("claims", ("claim", "evidence", "follows"), claims(rows))
    number, hours = trained(options.outputs, list(NETWORKS))
    print(f"\n{number} finished runs, {hours:.1f} hours of training")
    save_table(rows, options.outputs / "differences.csv")
    save_figure(forest(rows), options.outputs / "forest")


def _targets(data: Path) -> dict[str, tuple[str, ...]]:
    lung, dtd = data / "lung_ct", data / "texture"
    csv = ("domain/target=csv", f"domain.target.root={lung}", "domain.target.fit=stretch")
    folder = ("domain/target=folder", f"domain.target.root={dtd}")
    return {"embedded": (), "COVID-CT": csv, "DTD": folder}


def _shown(row: Difference, holm: float) -> list[str]:
    place = f"{row.cell}: {row.a} - {row.b}", row.r
    if row.refusal:
        return [*place, *"-----", row.refusal]
    between = f"[{row.low:.1f}, {row.high:.1f}]"
    numbers = f"{row.difference:+.1f}", between, f"{row.p:.3f}", f"{holm:.3f}"
    return [*place, *numbers, str(row.seeds), ""]


def _summary(one: Summary) -> list[str]:
    between = f"[{one.low:.1f}, {one.high:.1f}]"
    numbers = f"{one.mean:+.1f}", between, f"{one.tau:.1f}", f"{100 * one.i2:.0f} %"
    return [f"{one.a} - {one.b}", one.r, str(one.cells), *numbers]


if __name__ == "__main__":
    main()
