"""Training: images per class, learning curves, and the stages with their time."""

from collections.abc import Mapping
from math import nan
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stagetransfer.figures import STYLE
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages import plots
from stagetransfer.pages.blocks import Block, Plot, Table, Text, data_frame
from stagetransfer.reporting.figure5 import LABELS
from stagetransfer.reporting.sources_table import NOT_RECORDED
from stagetransfer.runs.run import trained_runs
from stagetransfer.runs.study import Study
from stagetransfer.runs.training_curves import validation_curve
from stagetransfer.terminal import clock

STAGE_COLUMNS = (
    "stage used distinct reused epochs images_per_second seconds seconds_without_sharing"
)


def learning_curves(study: Study) -> pd.DataFrame:
    """Return the learning curves of all runs, one row per epoch; for pooled folds, their mean."""
    columns = ["epoch", "cross_entropy", "accuracy"]
    tables = []
    for run in study.runs:
        curves = [validation_curve(part) for part in run.parts]
        folds = [curve[columns] for curve in curves if {*columns} <= {*curve}]
        if folds:
            curve = folds[0]
            if len(folds) > 1:
                curve = pd.concat(folds).groupby("epoch", as_index=False).mean()
            (seed,) = map(str, study.seeds_of([run]))
            tables.append(curve.assign(condition=run.condition, ratio=run.ratio, seed=seed))
    return pd.concat(tables) if tables else data_frame(["condition", "ratio", "seed", *columns], [])


def learning_curves_block(study: Study, ratio: float, curves: pd.DataFrame) -> Block:
    """Return the learning curves at a ratio; a line of text if no run has them."""
    at = fmt.ratio(ratio)
    curves = curves[curves["ratio"] == ratio]
    if curves.empty:
        return Text(f"No learning curves at r = {at}: the runs have no metrics.csv.")
    name, title = f"learning_curves-r{at}", f"Learning curves of the target stage at r = {at}"
    caption = "On validation data, by epoch. Thin lines are seeds; thick lines are their mean."
    last = curves.loc[
        curves.groupby(["condition", "seed"])["epoch"].transform("max") == curves["epoch"]
    ]
    means = last.groupby("condition", sort=False)[["cross_entropy", "accuracy"]].mean()
    alt = fmt.described(
        "Mean over seeds in the last epoch, on validation data",
        ((str(of), LABELS[str(key)], x) for of, row in means.iterrows() for key, x in row.items()),
    )
    return Plot(name, title, caption, _plot(study, curves), alt)


@mpl.rc_context(STYLE)
def _plot(study: Study, curves: pd.DataFrame) -> Figure:
    figure, axes = plots.grid(2, 2, (4.3, 3.4))
    for axis, (metric, label) in zip(axes, reversed(LABELS.items()), strict=True):
        for condition, style in plots.condition_styles(study.conditions).items():
            chosen = curves[curves["condition"] == condition]
            if chosen.empty:
                continue
            seeds = chosen.pivot(index="epoch", columns="seed", values=metric)
            axis.plot(seeds.index, seeds, color=style["color"], alpha=0.25, linewidth=0.8)
            name = plots.label(study, condition, float(chosen["ratio"].iloc[0]))
            options = {"markevery": max(1, len(seeds) // 8), "label": name, **style}
            axis.plot(seeds.index, seeds.mean(axis=1), **options)
        axis.set(xlabel="epoch", ylabel=f"validation {label}")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    plots.legend(figure, axes)
    return figure


def images_table(study: Study) -> Table:
    """Return the numbers of training images per class at each ratio, and of test images."""
    records = []
    for run in trained_runs(study.runs):
        recorded = run.num_train_per_class or {}
        of_classes = map(recorded.get, study.classes)
        records.append((run.ratio, run.seed, run.condition, run.num_train, *of_classes))
    data = data_frame(["ratio", "seed", "condition", "total", *study.classes], records)
    columns = [*study.classes, "total"]
    rows = []
    for ratio in study.ratios:
        counts = data[data["ratio"] == ratio]
        rows.append([f"train, r = {fmt.ratio(ratio)}", *(_range(counts[name]) for name in columns)])
    support = np.bincount(study.labels, minlength=len(study.classes))
    rows.append(["test", *map(str, support), str(len(study.labels))])
    if study.groups is not None:
        groups = [len({*study.groups[study.labels == i]}) for i in range(len(study.classes))]
        rows.append(["test groups", *map(str, groups), str(study.num_groups)])
    note = f"{NOT_RECORDED}: at least one run does not record images per class."
    notes = [note] if any(run.num_train_per_class is None for run in study.runs) else []
    return Table("images", "Images of each class", ["images", *columns], rows, notes, data=data)


def stages_table(study: Study) -> Table:
    """Return how often each stage was trained and used, and the time saved by sharing stages."""
    by_place: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for run in trained_runs(study.runs):
        for number, stage in enumerate(run.stages, 1):
            by_place.setdefault((number, stage["name"]), []).append(stage)
    rows, records = [], []
    for (number, name), used in sorted(by_place.items(), key=lambda item: item[0][0]):
        distinct = list({stage["key"]: stage for stage in used}.values())
        reused = sum(bool(stage["reused"]) for stage in used)
        counts = (f"{number}-{name}", len(used), len(distinct), reused)
        epochs = fmt.join(sorted({int(stage["epochs"]) for stage in distinct}))
        speeds = [float(s["images_per_second"]) for s in distinct if s["images_per_second"]]
        speed = float(np.mean(speeds)) if speeds else nan
        times = [sum(float(stage["seconds"]) for stage in of) for of in (distinct, used)]
        records.append((*counts, epochs, speed, *times))
        rows.append([*map(str, counts), epochs, fmt.number(speed, 0), *map(clock, times)])
    data = data_frame(STAGE_COLUMNS, records)
    total, unshared = data["seconds"].sum(), data["seconds_without_sharing"].sum()
    rows.append(["all", *[fmt.DASH] * 5, clock(total), clock(unshared)])
    saved = f" Sharing saved {1 - total / unshared:.0%} of the time." if unshared > 0 else ""
    note = (
        "A stage is named by its position in the chain and its domain. reused: taken from the "
        "store, because another run had trained it. time (h:min:s): each distinct stage counts "
        "once. unshared: the time if every run had trained all its stages."
    )
    columns = ["stage", "in runs", "distinct", "reused", "epochs", "images/s", "time", "unshared"]
    return Table("stages", "Stages and their time", columns, rows, [note + saved], data=data)


def _range(values: pd.Series) -> str:
    if values.isna().any():
        return NOT_RECORDED
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
