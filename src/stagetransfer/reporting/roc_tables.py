"""ROC curves in the report: areas and operating points of each class, conditions in pairs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stagetransfer.reporting import plots
from stagetransfer.reporting.blocks import (
    Bullets,
    Data,
    Section,
    Table,
    Text,
    listed,
    number,
    p_said,
    ratio_said,
    span,
)
from stagetransfer.reporting.table2 import few_note, mark
from stagetransfer.runs.roc_study import RocMetrics, RocStudy
from stagetransfer.runs.study import Study

OPERATION = RocMetrics(rates=(0.05, 0.1, 0.2), partial=0.1, standardised=True)
SAID: Mapping[str, str] = {
    "auroc": "AUROC",
    "DeLong": "AUROC (DeLong)",
    OPERATION.names[1]: f"left of {OPERATION.partial:g} (McClish)",
    **{f"sensitivity_at_{rate:g}": f"sensitivity at {rate:g}" for rate in OPERATION.rates},
}
MOST_ROWS, MOST_LINES = 60, 12


def roc_section(study: Study, out: Path) -> Section:
    """Areas, partial areas and sensitivities at the main ratio, with the curves."""
    ratio = study.main_ratio
    support = np.bincount(study.labels, minlength=len(study.classes))
    rarest = sorted(support.argsort(kind="stable")[: plots.MANY_CLASSES])
    wanted = None if len(study.classes) == 2 else [study.classes[i] for i in rarest]
    rocs = RocStudy(study, OPERATION, wanted, [ratio])
    section = Section(f"ROC curves at r = {ratio_said(ratio)}")
    if not rocs.positives:
        few = "No class has two test images of its own and two of the others: there is no curve."
        section.blocks.append(Text(few))
        return section
    figures, curves = rocs.metrics_table(), rocs.curves()
    pairs, words = rocs.pairs()
    lines = [f"left out, for its few images: {name}" for name in rocs.left_out]
    lines += words if len(words) <= MOST_LINES else []
    if len(study.classes) > len(support[rarest]):
        lines.append(f"only the {plots.MANY_CLASSES} rarest classes")
    section.blocks += [
        Text(
            f"Each class against the rest, by its probability; mean over seeds. "
            f"{'Other ratios and classes, other' if len(study.ratios) > 1 else 'Other'} "
            "false-positive rates: stagetransfer roc."
        ),
        *([Bullets(lines)] if lines else []),
        plots.save(
            plots.roc_plot(rocs, ratio, figures, curves),
            f"roc-r{ratio_said(ratio)}",
            f"ROC curves at r = {ratio_said(ratio)}",
            "Mean over seeds of the sensitivity at each false-positive rate; bars: 95 % intervals "
            f"at {listed(f'{rate:g}' for rate in OPERATION.rates)}, side by side so that none "
            "hides another.",
            out,
        ),
        _table(
            study,
            *("roc", "Areas and operating points", ["condition", "class"]),
            figures,
            [
                "Below each mean its 95 % interval: by the bootstrap of the report, or by DeLong "
                "(1988), which takes images as independent and seeds as given: a second opinion. "
                f"left of {OPERATION.partial:g}: the area left of this false-positive rate, "
                "between 0.5, chance, and 1 (McClish 1989); sensitivity at false-positive rates.",
            ],
        ),
        Data("roc_curves", curves),
    ]
    if len(pairs):
        section.blocks.append(
            _table(
                study,
                *("roc_pairs", "Conditions in pairs, in points", ["pair", "class"]),
                pairs.assign(pair=pairs["a"] + " - " + pairs["b"]),
                [
                    "Difference of the means of the seeds that both conditions have, in percentage "
                    "points, with its 95 % interval and p by Holm's correction over the pairs, for "
                    "one class and figure.",
                ],
            )
        )
    return section


def _table(
    study: Study, name: str, title: str, by: list[str], data: pd.DataFrame, notes: list[str]
) -> Table:
    """A row a condition or pair and class, a column a figure; DeLong's has one of its own."""
    column = data["figure"].where(data["method"] == "bootstrap", data["method"])
    cells: dict[tuple[Hashable, ...], dict[str, str]] = {}
    for figure, row in zip(column, data.to_dict("records"), strict=True):
        cells.setdefault(tuple(row[key] for key in by), {})[figure] = _cell(row)
    rows = [[*map(str, place), *(of[figure] for figure in SAID)] for place, of in cells.items()]
    more = f"The first {MOST_ROWS} of {len(rows)} rows; all are in the CSV."
    return Table(
        name,
        f"{title}{mark(study)}",
        [*by, *SAID.values()],
        rows[:MOST_ROWS],
        [*notes, *([more] if len(rows) > MOST_ROWS else []), *few_note(study)],
        left=2,
        data=data,
    )


def _cell(row: Mapping[Hashable, Any]) -> str:
    if "p_holm" not in row:
        return f"{number(row['estimate'])}\n{span(row['low'], row['high'])}"
    estimate, low, high = (100 * row[key] for key in ("estimate", "low", "high"))
    return f"{estimate + 0.0:+.1f}\n{span(low, high, 1)}\np {p_said(row['p_holm'])}"
