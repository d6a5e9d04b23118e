"""What the runs were made of: which there are, images by class and ratio, stages and their time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stagetransfer.reporting.blocks import DASH, Table, listed, number, ratio_said
from stagetransfer.runs.comparability import differences
from stagetransfer.runs.run import Run, UnfinishedRun
from stagetransfer.runs.study import Study

NOT_RECORDED = "not recorded"


def missing(study: Study, unfinished: Sequence[UnfinishedRun]) -> list[tuple[str, float, int]]:
    """Condition, ratio and seed of which there is no run at all, finished or not."""
    there = {run.place for run in study.runs} | {run.place for run in unfinished if run.place}
    conditions = dict.fromkeys(c for c, _, _ in sorted(there))
    ratios, seeds = {r for _, r, _ in there}, {s for _, _, s in there}
    return [
        (c, r, s)
        for c in conditions
        for r in sorted(ratios)
        for s in sorted(seeds)
        if (c, r, s) not in there
    ]  # fmt: skip


def runs_table(study: Study, unfinished: Sequence[UnfinishedRun]) -> Table:
    """Which seeds of each condition and ratio are finished, unfinished, failed, missing."""
    finished = {run.place for run in study.runs}
    open_ = {run.place for run in unfinished if run.place and not run.cause} - finished
    failed = {run.place for run in unfinished if run.place and run.cause} - finished
    absent = missing(study, unfinished)
    there = dict.fromkeys([*sorted(finished), *sorted(open_), *sorted(failed), *absent])
    order = {name: i for i, name in enumerate(study.conditions)}
    cells = sorted({(c, r) for c, r, _ in there}, key=lambda x: (order.get(x[0], 99), *x))
    rows = [
        [
            condition,
            ratio_said(ratio),
            *(
                listed(sorted(s for c, r, s in places if (c, r) == (condition, ratio)))
                for places in (finished, open_, failed, absent)
            ),
        ]
        for condition, ratio in cells
    ]
    return Table(
        "runs",
        "Runs by seed",
        ["condition", "r", "finished", "unfinished", "failed", "missing"],
        rows,
        ["Seeds. Only finished runs are in the figures; missing: another run has this condition, "
         "ratio or seed, but none has all three."],
        left=2,
    )  # fmt: skip


def images_table(study: Study) -> Table:
    """Training images of each class at each ratio, and the test set's."""
    numbers = pd.DataFrame(
        [
            {
                "ratio": run.ratio,
                "seed": run.seed,
                "condition": run.condition,
                "total": run.num_train,
                **{name: (run.num_train_per_class or {}).get(name) for name in study.classes},
            }
            for pooled in study.runs
            for run in pooled.parts
        ]
    )
    rows = [
        [
            f"train, r = {ratio_said(ratio)}",
            *(_range(numbers[numbers["ratio"] == ratio][name]) for name in study.classes),
            _range(numbers[numbers["ratio"] == ratio]["total"]),
        ]
        for ratio in study.ratios
    ]
    support = np.bincount(study.labels, minlength=len(study.classes))
    rows.append(["test", *map(str, support), str(len(study.labels))])
    if study.groups is not None:
        held = [len({*study.groups[study.labels == i]}) for i in range(len(study.classes))]
        rows.append(["test groups", *map(str, held), str(study.num_groups)])
    few_recorded = any(run.num_train_per_class is None for run in study.runs)
    return Table(
        "images",
        "Images of each class",
        ["", *study.classes, "total"],
        rows,
        ["Runs that do not record images by class: not recorded."] if few_recorded else (),
        data=numbers,
    )


def stages_table(study: Study) -> Table:
    """How often each stage was trained and used, and the time that sharing saved."""
    runs = [part for run in study.runs for part in run.parts]
    entries = [(number, stage) for run in runs for number, stage in enumerate(run.stages, 1)]
    records: list[dict[str, Any]] = []
    for title in dict.fromkeys((n, s["name"]) for n, s in sorted(entries, key=lambda e: e[0])):
        used = [stage for n, stage in entries if (n, stage["name"]) == title]
        distinct = list({stage["key"]: stage for stage in used}.values())
        seconds = sum(float(stage["seconds"]) for stage in distinct)
        alone = sum(float(stage["seconds"]) for stage in used)
        speeds = [float(s["images_per_second"]) for s in distinct if s["images_per_second"]]
        records.append(
            {
                "stage": f"{title[0]}-{title[1]}",
                "used": len(used),
                "distinct": len(distinct),
                "reused": sum(bool(stage["reused"]) for stage in used),
                "epochs": listed(sorted({int(stage["epochs"]) for stage in distinct})),
                "images_per_second": float(np.mean(speeds)) if speeds else float("nan"),
                "seconds": seconds,
                "seconds_without_sharing": alone,
            }
        )
    data = pd.DataFrame(records)
    total, alone = data["seconds"].sum(), data["seconds_without_sharing"].sum()
    rows = [
        [
            str(row["stage"]),
            *(str(row[key]) for key in ("used", "distinct", "reused", "epochs")),
            number(row["images_per_second"], 0),
            _clock(row["seconds"]),
            _clock(row["seconds_without_sharing"]),
        ]
        for row in records
    ]
    rows.append(["all", *[DASH] * 5, _clock(total), _clock(alone)])
    share = f" Sharing saved {1 - total / alone:.0%} of the time." if alone > 0 else ""
    return Table(
        "stages",
        "Stages and their time",
        ["stage", "in runs", "distinct", "reused", "epochs", "images/s", "time", "unshared"],
        rows,
        ["A stage is named by its place in the chain; reused: taken from the store, trained by "
         "another run. time: each distinct stage once; unshared: had every run trained its own." +
         share],
        data=data,
    )  # fmt: skip


def source_seeds(study: Study) -> str:
    """Whether the source stages' seed was fixed or followed the seed, in words."""
    runs = [run for run in study.runs if len(run.chain) > 1]
    if not runs:
        return "No run has a source stage."
    seeds = {run.source_seed for run in runs}
    if None in seeds:
        return "source_seed: not recorded in all runs."
    fixed, follows = len(seeds) == 1, all(run.source_seed == run.seed for run in runs)
    if fixed and follows:
        return f"source_seed: {listed(seeds)}, as the one seed."
    if fixed:
        return (
            f"source_seed: fixed at {listed(seeds)}. All seeds share their source stages, so the "
            "intervals do not know how sources trained from other seeds differ."
        )
    if follows:
        return "source_seed: follows the seed; each seed has source stages of its own."
    return f"source_seed: mixed ({listed(sorted(str(seed) for seed in seeds))}); compare with care."


def unlike_conditions(study: Study) -> list[str]:
    """Where conditions differ in more than their chain, and runs in their software."""
    firsts = [study.at(name)[0] for name in study.conditions]
    lines = []
    for run in firsts[1:]:
        for key, (a, b) in differences(firsts[0], run, ignore_place=True).items():
            lines.append(
                f"{firsts[0].condition} and {run.condition} differ in more than their chain: "
                f"{key} is {a} and {b}"
            )
    for name in sorted({name for run in study.runs for name in run.versions}):
        found = sorted({run.versions.get(name, "unknown") for run in study.runs})
        if len(found) > 1:
            lines.append(f"runs were made with other versions of {name}: {listed(found)}")
    return lines


def versions(runs: Sequence[Run]) -> str:
    """The software of the first run."""
    return listed(f"{name} {value}" for name, value in sorted(runs[0].versions.items()))


def _range(values: pd.Series) -> str:
    if values.isna().any():
        return NOT_RECORDED
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
