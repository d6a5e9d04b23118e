"""The project's own study, as docs/study.md lays down: python -m benchmarks.study DATA

DATA has texture/ (DTD) and lung_ct/ (COVID-CT). What is finished is not trained again, so a killed
study continues with the same command. With --report nothing is trained: the tables and the forest
plot are made of the runs that exist, and cells without all of their runs are named. Processes with
another --network each can train side by side. With --archives, results come from archives of that
folder where they exist there, and are added to them (`study_archive`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects  # type: ignore[import-untyped]

from benchmarks.study_archive import pack, unpack
from benchmarks.tables import show
from stagetransfer.api import load_runs, train
from stagetransfer.errors import UserError
from stagetransfer.figures import STYLE, new_figure, save_figure
from stagetransfer.runs import Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import holm

LITE0 = ("model=efficientnet_lite0", "domain/natural=pretrained")
NETWORKS = {
    "AlexNet": ("model=paper",),
    "EfficientNet-Lite0": (*LITE0, "domain.natural.weights=efficientnet-lite0"),
}
CONDITIONS = ("scratch", "natural", "texture", "two_stage")
RATIOS = (0.2, 0.6, 1.0)
PRIMARY = [("two_stage", "scratch")]
SECONDARY = [("natural", "scratch"), ("texture", "scratch"), ("two_stage", "natural")]
FIGURE = "accuracy"


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
        trained = [cell for cell in cells if cell[0] in options.network]
        for seed, (network, target) in product(range(options.seeds), trained):
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
        runs = load_runs(options.outputs / network)
        for seed in sorted({run.seed for run in runs}):
            folders = [run.folder for run in runs if run.seed == seed]
            pack(folders, options.archives / f"{network}-seed{seed}.tar.xz")
    rows = pd.DataFrame(_differences(options.outputs, cells))
    for pairs in (PRIMARY, SECONDARY):
        chosen = rows[[(a, b) in pairs for a, b in zip(rows["a"], rows["b"], strict=True)]].copy()
        chosen["holm"] = holm(list(chosen["p"]), len(cells) * len(pairs) * len(RATIOS))
        show(f"{FIGURE}, points: {'primary' if pairs is PRIMARY else 'secondary'}", COLUMNS,
             [_shown(row) for row in chosen.to_dict("records")])  # fmt: skip
    summaries = pd.DataFrame(_summaries(rows))
    show("random-effects summary over networks and targets", SUMMARY_COLUMNS,
         [_summary(row) for row in summaries.to_dict("records")])  # fmt: skip
    rows.to_csv(options.outputs / "differences.csv", index=False)
    save_figure(_forest(rows, summaries), options.outputs / "forest")


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


def _targets(data: Path) -> dict[str, tuple[str, ...]]:
    lung, dtd = data / "lung_ct", data / "texture"
    csv = ("domain/target=csv", f"domain.target.root={lung}", "domain.target.fit=stretch")
    folder = ("domain/target=folder", f"domain.target.root={dtd}")
    return {"embedded": (), "COVID-CT": csv, "DTD": folder}


def _differences(
    outputs: Path, cells: list[tuple[str, str]]
) -> Iterator[dict[str, float | str | int]]:
    """Yield a row for each cell, pair of conditions and ratio; points, with p before Holm."""
    for network in dict.fromkeys(network for network, _ in cells):
        by_target: dict[str, list[Run]] = {}
        for run in load_runs(outputs / network):
            by_target.setdefault(_target_of(run), []).append(run)
        for target, runs in by_target.items():
            study = Study(runs)
            for (a, b), ratio in product([*PRIMARY, *SECONDARY], RATIOS):
                pair = study.pair(a, b, ratio, (FIGURE,))
                gap = pair.metrics[FIGURE]
                yield {
                    "cell": f"{network}, {target}",
                    "a": a,
                    "b": b,
                    "r": ratio,
                    "difference": 100 * gap.estimate,
                    "low": 100 * gap.low,
                    "high": 100 * gap.high,
                    "variance": 1e4 * gap.variances[2],
                    "p": gap.p_value,
                    "seeds": gap.seeds,
                    "runs": " ".join(run.folder.name[-8:] for run in (*pair.of_a, *pair.of_b)),
                    "refusal": pair.refusal,
                }


def _target_of(run: Run) -> str:
    root = str(run.config.get("domain.target.root") or "")
    return {"": "embedded", "lung_ct": "COVID-CT", "texture": "DTD"}[Path(root).name]


def _summaries(rows: pd.DataFrame) -> Iterator[dict[str, float | str | int]]:
    """Yield the random-effects mean of each difference over the cells, Paule and Mandel's."""
    for (a, b), ratio in product([*PRIMARY, *SECONDARY], RATIOS):
        of = rows[(rows["a"] == a) & (rows["b"] == b) & (rows["r"] == ratio)]
        of = of[np.isfinite(of["variance"]) & (of["variance"] > 0)]
        if len(of) < 2:
            continue
        found = combine_effects(of["difference"], of["variance"], method_re="pm")
        # Knapp and Hartung's interval, never shorter than that of the plain standard error.
        error = max(found.sd_eff_w_re, found.sd_eff_w_re_hksj)
        half, mean = float(stats.t.ppf(0.975, len(of) - 1)) * error, found.mean_effect_re
        yield {
            "name": f"{a} - {b}",
            "r": ratio,
            "cells": len(of),
            "mean": mean,
            "low": mean - half,
            "high": mean + half,
            "tau": float(np.sqrt(found.tau2)),
            "i2": max(0.0, 1 - found.df_resid / found.q) if found.q > 0 else 0.0,
        }


def _shown(row: Mapping[Any, Any]) -> list[str]:
    place = f"{row['cell']}: {row['a']} - {row['b']}", f"{row['r']:g}"
    if row["refusal"]:
        return [*place, *"-----", str(row["refusal"])]
    between = f"[{row['low']:.1f}, {row['high']:.1f}]"
    numbers = f"{row['difference']:+.1f}", between, f"{row['p']:.3f}", f"{row['holm']:.3f}"
    return [*place, *numbers, str(row["seeds"]), ""]


def _summary(row: Mapping[Any, Any]) -> list[str]:
    between = f"[{row['low']:.1f}, {row['high']:.1f}]"
    numbers = (f"{row['mean']:+.1f}", between, f"{row['tau']:.1f}", f"{100 * row['i2']:.0f} %")
    return [str(row["name"]), f"{row['r']:g}", str(row["cells"]), *numbers]


@mpl.rc_context(STYLE)
def _forest(rows: pd.DataFrame, summaries: pd.DataFrame) -> mpl.figure.Figure:
    a, b = PRIMARY[0]
    cells = list(dict.fromkeys(rows["cell"]))
    figure = new_figure(7.4, 0.35 * (len(cells) + 1) + 1.2)
    for axes, ratio in zip(figure.subplots(1, len(RATIOS), sharey=True), RATIOS, strict=True):
        of = rows[(rows["a"] == a) & (rows["b"] == b) & (rows["r"] == ratio)].set_index("cell")
        for place, cell in enumerate(reversed(cells), 1):
            if cell in of.index and np.isfinite(of.loc[cell, "low"]):
                axes.plot(of.loc[cell, ["low", "high"]], [place, place], color="#0072B2")
                axes.plot(of.loc[cell, "difference"], place, "s", color="#0072B2", markersize=4)
        mean = summaries[(summaries["name"] == f"{a} - {b}") & (summaries["r"] == ratio)]
        for one in mean.to_dict("records"):
            axes.plot([one["low"], one["high"]], [0, 0], color="black")
            axes.plot(one["mean"], 0, "D", color="black", markersize=5)
        axes.axvline(0, color="#777777", linewidth=0.8)
        axes.set_title(f"r = {ratio:g}")
        axes.set_xlabel(f"{a} - {b}, points")
        axes.set_yticks(range(len(cells) + 1), ["mean (random effects)", *reversed(cells)])
    return figure


if __name__ == "__main__":
    main()
