"""Cross-validation: the results of each fold beside those of all folds pooled."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Section, Table, Text
from stagetransfer.runs.study import Study

FEW_IN_FOLD = (
    "At least one fold has fewer than ten groups of some class. The intervals of single folds are "
    "not reliable; use the pooled ones."
)
POOLED = (
    "The test set is {count} folds of one split file (digest {digest}). Each run was trained on "
    "all folds but one and tested on that one. All results in this report use the pooled "
    "predictions of the folds: for each seed, each image is predicted once, by a model that was "
    "not trained on this patient. The intervals resample patients and seeds. They do not include "
    "the variance from training on other patients, and the models of the folds share most of their "
    "training patients. AUROC and cross-entropy pool the probabilities of several models."
)


def fold_sections(study: Study) -> list[Section]:
    """Return one section per ratio; a warning if all runs are on one fold; none without folds."""
    first = study.runs[0]
    if first.fold is not None:
        text = f"All runs are on fold {first.fold} of a split file; no other fold has a run."
        return [Section("Folds", [Text(text, kind="warning")])]
    if not first.folds or first.splits is None:
        return []
    by_fold = zip(*(run.folds for run in study.runs), strict=True)
    folds = [Study(runs, study.count) for runs in by_fold]
    pooled = POOLED.format(count=len(folds), digest=first.splits["digest"])
    tables = [(fmt.ratio(ratio), _table(study, folds, ratio)) for ratio in reversed(study.ratios)]
    (main, of_main), *others = tables
    return [
        Section(f"Folds at r = {main}", [Text(pooled), of_main]),
        *(Section(f"Appendix: folds at r = {r}", [table], True) for r, table in others),
    ]


def _table(study: Study, folds: list[Study], ratio: float) -> Table:
    rows, records = [], []
    parts = {str(i): fold for i, fold in enumerate(folds)} | {"pooled": study}
    for condition in (name for name in study.conditions if study.at(name, ratio)):
        for name, part in parts.items():
            images, groups = len(part.labels), "" if part.groups is None else str(part.num_groups)
            found = {metric: part.interval(condition, ratio, metric) for metric in fmt.LABELS}
            means = [fmt.mean(x.estimate, x.low, x.high) for x in found.values()]
            first = fmt.marked(part, condition, ratio)
            rows.append([first, name, str(images), groups, *means])
            place = {"condition": condition, "ratio": ratio, "fold": name}
            for metric, x in found.items():
                records.append({**place, "figure": metric, "images": images, **asdict(x)})
        spread = [
            np.std([fold.interval(condition, ratio, metric).estimate for fold in folds], ddof=1)
            for metric in fmt.LABELS
        ]
        rows.append([condition, "sd of folds", "", "", *map(fmt.number, map(float, spread))])
    notes = [
        f"Mean over seeds, with the 95 % interval{fmt.dagger(study)} below it. sd of folds: the "
        "standard deviation over the folds; it is not a standard error of the pooled result.",
        *fmt.few_groups_note(study),
    ]
    if any(fold.few for fold in folds) and not study.few:
        notes.append(FEW_IN_FOLD)
    name = f"folds{fmt.table_suffix(study, ratio)}"
    title = f"Results of each fold at r = {fmt.ratio(ratio)}"
    columns = ["condition", "fold", "images", "groups", *fmt.LABELS.values()]
    return Table(name, title, columns, rows, notes, left=2, data=pd.DataFrame(records))
