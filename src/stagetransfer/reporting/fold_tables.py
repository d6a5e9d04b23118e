"""Cross-validation in the report: the figures of each fold beside the pooled ones."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from stagetransfer.reporting.blocks import Section, Table, Text, number, ratio_said, span
from stagetransfer.reporting.table2 import FIGURES, few_note, mark
from stagetransfer.runs.study import Study

WORDS = (
    "The test set is {count} folds of one split file (digest {digest}). Each run was tested on one "
    "fold and trained on the others; all figures of this report are of the folds' predictions "
    "pooled, each image once a seed, by a model that never saw its patient. Intervals resample "
    "patients and seeds: they do not know how models trained on other patients would differ, and "
    "the folds' models share most of theirs. AUROC and cross-entropy pool the probabilities of "
    "several models."
)


def fold_sections(study: Study) -> list[Section]:
    """A section at r = 1 (or the greatest ratio), appendices at the others; none without folds.

    Where all runs are on one fold alone, a section that says so.
    """
    first = study.runs[0]
    if first.fold is not None:
        said = f"All runs are on fold {first.fold} of a split file; the other folds are not here."
        return [Section("Folds", [Text(said, kind="warning")])]
    if not first.folds or first.splits is None:
        return []
    of_folds = [
        Study([run.folds[fold] for run in study.runs], study.count)
        for fold in range(len(first.folds))
    ]
    words = WORDS.format(count=len(first.folds), digest=first.splits["digest"])
    main = study.main_ratio
    said = ratio_said(main)
    sections = [Section(f"Folds at r = {said}", [Text(words), _table(study, of_folds, main)])]
    for ratio in reversed(study.ratios[:-1]):
        title = f"Appendix: folds at r = {ratio_said(ratio)}"
        sections.append(Section(title, [_table(study, of_folds, ratio)], appendix=True))
    return sections


def _table(study: Study, of_folds: list[Study], ratio: float) -> Table:
    rows, numbers = [], []
    few = any(fold.few for fold in of_folds)
    for condition in (name for name in study.conditions if study.at(name, ratio)):
        means: dict[str, list[float]] = {name: [] for name in FIGURES}
        for title, part in [*((str(i), of) for i, of in enumerate(of_folds)), ("pooled", study)]:
            cells = [str(len(part.labels)), str(part.num_groups) if part.groups is not None else ""]
            for name in FIGURES:
                found = part.interval(condition, ratio, name)
                cells.append(f"{number(found.estimate)}\n{span(found.low, found.high)}")
                place = {"condition": condition, "ratio": ratio, "fold": title, "figure": name}
                size = {"images": len(part.labels)}
                numbers.append({**place, **size, **asdict(found)})
                if part is not study:
                    means[name].append(found.estimate)
            rows.append([condition, title, *cells])
        spread = [number(float(np.std(of, ddof=1))) for of in means.values()]
        rows.append([condition, "sd of folds", "", "", *spread])
    suffix = "" if ratio == study.main_ratio else f"-r{ratio_said(ratio)}"
    notes = [
        f"Mean over seeds, below it the 95 % interval{mark(study)}. sd of folds: how the folds "
        "differ, which is no standard error of the pooled figure.",
        *few_note(study),
        *(
            ["A single fold has fewer than ten groups of some class: take the intervals of folds "
             "as rough, and read the pooled ones."]
            if few and not study.few
            else []
        ),
    ]  # fmt: skip
    return Table(
        f"folds{suffix}",
        f"Figures of each fold at r = {ratio_said(ratio)}",
        ["condition", "fold", "images", "groups", *(said for said, _ in FIGURES.values())],
        rows,
        notes,
        left=2,
        data=pd.DataFrame(numbers),
    )
