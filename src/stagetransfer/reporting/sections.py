"""The report's sections, from runs to blocks; plots are drawn into its folder on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stagetransfer.reporting import plots, run_tables
from stagetransfer.reporting.blocks import (
    Block,
    Bullets,
    Data,
    Plot,
    Section,
    Text,
    counted,
    listed,
    ratio_said,
)
from stagetransfer.reporting.calibration_tables import calibration_sections
from stagetransfer.reporting.depth_tables import layerwise_sections
from stagetransfer.reporting.learning_curves import TAGS, learning_curve
from stagetransfer.reporting.roc_tables import roc_section
from stagetransfer.reporting.table2 import pairs_blocks, table_2
from stagetransfer.reporting.table3 import table_3
from stagetransfer.runs.run import UnfinishedRun
from stagetransfer.runs.study import Study

METHOD = (
    "Intervals are 95 % and come from one bootstrap: seeds, and within the test set groups "
    "(patients), are resampled together, the groups stratified so that no class vanishes; the "
    "width is put right for few seeds and groups (documented in stagetransfer.statistics). All "
    "conditions share the {count} resamples, so they are compared in pairs, and a p-value is at "
    "most 0.05 just where its interval leaves zero out. Where an interval of a difference holds "
    "zero, the runs are no evidence of a difference, whichever mean is greater."
)


def sections(study: Study, unfinished: Sequence[UnfinishedRun], out: Path) -> list[Section]:
    """All sections in the order of the page, the appendix last."""
    main = study.main_ratio
    curves = _curves(study)
    at_main = [curves_block(study, main, curves, out)]
    page = [
        _overview(study, unfinished),
        Section(f"Figures at r = {ratio_said(main)}", table_2(study, main)),
        Section(f"Conditions in pairs at r = {ratio_said(main)}", pairs_blocks(study, main)),
        *layerwise_sections(study, out),
        Section("Less training data", [*table_3(study), _figure_5(study, out)]),
        roc_section(study, out),
        Section("By class", [_recall(study, out), *_confusion(study, out)]),
        Section(
            "Training", [run_tables.images_table(study), *at_main, run_tables.stages_table(study)]
        ),
    ]
    page += calibration_sections(study, out)
    for ratio in reversed(study.ratios[:-1]):
        blocks = [*table_2(study, ratio), *pairs_blocks(study, ratio)]
        blocks.append(curves_block(study, ratio, curves, out))
        page.append(Section(f"Appendix: r = {ratio_said(ratio)}", blocks, appendix=True))
    return page


def curves_block(study: Study, ratio: float, curves: pd.DataFrame, out: Path) -> Block:
    """The learning curves at a ratio, or a line where no run has them."""
    said = ratio_said(ratio)
    if not (curves["ratio"] == ratio).any():
        return Text(f"No learning curves at r = {said}: the runs hold no metrics.csv.")
    return plots.save(
        plots.curves_plot(study, ratio, curves),
        f"learning_curves-r{said}",
        f"Learning curves of the target stage at r = {said}",
        "On validation data by epoch: thin lines are seeds, thick ones their mean.",
        out,
    )


def _overview(study: Study, unfinished: Sequence[UnfinishedRun]) -> Section:
    finished = {run.place for run in study.runs}
    absent = run_tables.missing(study, unfinished)
    lines = [
        f"{counted(len(study.runs), 'finished run')} of "
        f"{counted(len(study.conditions), 'condition')}; r: "
        f"{listed(map(ratio_said, study.ratios))}; seeds: {listed(study.seeds)}.",
        *(f"{name}: {' → '.join(study.chains[name])}." for name in study.conditions),
        _test_set(study),
        run_tables.source_seeds(study),
        f"Software: {run_tables.versions(study.runs)}.",
    ]
    blocks: list[Block] = [Bullets(lines)]
    problems = [
        f"{run.folder.name}: {run.reason}"
        + (" (a finished run stands in for it)" if run.place in finished else "")
        for run in unfinished
    ]
    problems += [f"{c}, r = {ratio_said(r)}, seed {s}: no run" for c, r, s in absent]
    if problems:
        words = "Not in the figures below, because there is no result:"
        blocks += [Text(words, kind="warning"), Bullets(problems, kind="problems")]
    if unlike := run_tables.unlike_conditions(study):
        blocks += [Text("To keep in mind:", kind="warning"), Bullets(unlike, kind="problems")]
    blocks += [run_tables.runs_table(study, unfinished), Text(METHOD.format(count=study.count))]
    return Section("Runs", blocks)


def _test_set(study: Study) -> str:
    images, classes = f"{len(study.labels)} images", f"{len(study.classes)} classes"
    if study.groups is None:
        return (
            f"Test set: {images} of {classes}; groups are unknown, so images are resampled as if "
            "each were its own patient: intervals are too narrow if they are not."
        )
    return f"Test set: {images} of {study.num_groups} groups (patients), {classes}."


def _figure_5(study: Study, out: Path) -> Plot:
    return plots.save(
        plots.figure_5(study),
        "figure5",
        "Figure 5. Accuracy and cross-entropy on the test set against the training-data ratio r",
        "Mean over seeds with its 95 % interval; faint points are seeds.",
        out,
    )


def _recall(study: Study, out: Path) -> Plot:
    most = plots.MANY_CLASSES
    many = f" The {most} rarest classes." if len(study.classes) > most else ""
    return plots.save(
        plots.recall_plot(study),
        "recall_by_class",
        "Recall of each class against r",
        "Mean over seeds with its 95 % interval; faint points are seeds; n: test images."
        + many
        + (f" Fewer than ten groups: {listed(study.few)}." if study.few else ""),
        out,
    )


def _confusion(study: Study, out: Path) -> list[Block]:
    plot = plots.save(
        plots.confusion_plot(study),
        "confusion",
        "Confusion matrices",
        "Counts summed over seeds; colour: share of the label's images.",
        out,
    )
    data = pd.DataFrame(
        [
            {
                "condition": condition,
                "ratio": ratio,
                "label": label,
                **dict(zip(study.classes, row.tolist(), strict=True)),
            }
            for condition in study.conditions
            for ratio in [max(run.ratio for run in study.at(condition))]
            for label, row in zip(
                study.classes, plots.confusion(study, condition, ratio), strict=True
            )
        ]
    )
    recall = pd.DataFrame(
        [
            {
                "condition": condition,
                "ratio": ratio,
                "class": name,
                "recall": result.estimate,
                "low": result.low,
                "high": result.high,
                "seeds": result.seeds,
            }
            for condition in study.conditions
            for ratio in study.ratios
            if study.at(condition, ratio)
            for name in study.classes
            if name in {study.classes[i] for i in study.labels}
            for result in [study.interval(condition, ratio, f"recall:{name}")]
        ]
    )
    return [plot, Data("confusion", data), Data("recall_by_class", recall)]


def _curves(study: Study) -> pd.DataFrame:
    columns = ["condition", "ratio", "seed", "epoch", *TAGS]
    tables = []
    for run in study.runs:
        joined = pd.concat([learning_curve(part) for part in run.parts])
        if not joined.empty:  # of folds their mean stands for the seed
            curve = joined.groupby("epoch", as_index=False).mean()
            tables.append(curve.assign(condition=run.condition, ratio=run.ratio, seed=run.seed))
    joined = pd.concat(tables) if tables else pd.DataFrame(columns=pd.Index(columns))
    return joined[columns]
