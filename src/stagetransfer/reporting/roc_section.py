"""ROC curves of each class against the rest: areas, operating points, pairwise comparisons."""

from collections.abc import Mapping, Sequence

import pandas as pd

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages import plots
from stagetransfer.pages.blocks import Block, Bullets, Data, Plot, Section, Table, Text
from stagetransfer.reporting.roc_plots import roc_plot
from stagetransfer.runs.roc_study import RocMetrics, RocStudy
from stagetransfer.runs.study import Study
from stagetransfer.statistics import POINTS

ROC_METRICS = RocMetrics(rates=(0.05, 0.1, 0.2), partial=0.1, standardised=True)
LABELS: Mapping[str, str] = {
    "auroc": "AUROC",
    "DeLong": "AUROC (DeLong)",
    ROC_METRICS.names[1]: f"partial area to {ROC_METRICS.partial:g} (McClish)",
    **{f"sensitivity_at_{rate:g}": f"sensitivity at {rate:g}" for rate in ROC_METRICS.rates},
}
MAX_ROWS, MAX_LINES = 60, 12
NO_CURVE = "No ROC curve: it needs two test images of a class and two of the other classes."
METHOD = (
    "Each class is compared with the rest. The score is its probability. Curves are means over "
    "seeds. For other {others} and false-positive rates use stagetransfer roc."
)
CAPTION = (
    "Mean over seeds of the sensitivity at each false-positive rate. Bars are 95 % intervals at "
    f"the rates {fmt.join(ROC_METRICS.rates)}, side by side so that none hides another."
)
AREA_NOTE = (
    "Mean over seeds, with its 95 % interval below it: from the bootstrap of the report, or from "
    "DeLong's method (1988) as an additional check, which assumes independent images and treats "
    f"the seeds as fixed. partial area to {ROC_METRICS.partial:g}: the area up to this "
    "false-positive rate on McClish's scale (1989), from 0.5 (chance) to 1. sensitivity at: at "
    "these false-positive rates."
)
PAIR_NOTE = (
    "Difference of the means over the seeds that both conditions have, in percentage points, with "
    "its 95 % interval and p-value. Holm's correction is over all pairs, also those that are not "
    "compared, separately for each class and metric."
)


def roc_section(study: Study) -> Section:
    """Return the areas, partial areas and sensitivities at the main ratio, with the curves."""
    ratio = study.main_ratio
    title = f"ROC curves at r = {fmt.ratio(ratio)}"
    classes = [study.classes[i] for i in plots.classes_to_draw(study)]
    rocs = RocStudy(study, ROC_METRICS, None if len(study.classes) == 2 else classes, [ratio])
    if not rocs.positives:
        return Section(title, [Text(NO_CURVE)])
    metrics, curves = rocs.metrics_table(), rocs.curves()
    pairs, sentences, refusals = rocs.pairs()
    lines = [f"left out, because there are too few test images: {name}" for name in rocs.left_out]
    lines += [*refusals, *(sentences if len(sentences) <= MAX_LINES else [])]
    if len(study.classes) > len(classes):
        lines.append(f"shown are only the {plots.MAX_CLASSES} classes with the fewest test images")
    others = "ratios, classes" if len(study.ratios) > 1 else "classes"
    areas = metrics[(metrics["figure"] == "auroc") & (metrics["method"] == "bootstrap")]
    rows = areas.sort_values("condition", kind="stable")[["condition", "class", "estimate"]]
    alt = fmt.described("Mean area under the curve", rows.itertuples(index=False))
    figure = roc_plot(rocs, ratio, metrics, curves)
    blocks: list[Block] = [
        Text(METHOD.format(others=others)),
        *([Bullets(lines)] if lines else []),
        Plot(f"roc-r{fmt.ratio(ratio)}", title, CAPTION, figure, alt),
        _table(study, "roc", "Areas and operating points", ["condition", "class"], metrics),
        Data("roc_curves", curves),
    ]
    if len(pairs) and not study.without_spread:
        pairs = pairs.assign(pair=pairs["a"] + " - " + pairs["b"])
        heading = "Pairs of conditions, differences in points"
        blocks.append(_table(study, "roc_pairs", heading, ["pair", "class"], pairs))
    return Section(title, blocks)


def _table(study: Study, name: str, title: str, by: Sequence[str], data: pd.DataFrame) -> Table:
    """Return a table with one row per class and condition (or pair), and one column per metric."""
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in data.to_dict("records"):
        column = row["figure"] if row["method"] == "bootstrap" else row["method"]
        first, of_class = (str(row[key]) for key in by)
        numbers = (row["estimate"], row["low"], row["high"])
        if refusal := row.get("not_compared"):  # said once, in the first column
            of_class = "all"
            cell = f"not compared: {refusal}" if column == "auroc" else fmt.DASH
        elif "pair" in by:
            cell = f"{fmt.difference(*numbers, POINTS)}\np {fmt.p_value(row['p_holm'])}"
        else:
            first = fmt.marked(study, first, row["ratio"])
            cell = fmt.mean(*numbers)
        cells.setdefault((first, of_class), {})[column] = cell
    rows = [[*place, *(found[column] for column in LABELS)] for place, found in cells.items()]
    more = f"The first {MAX_ROWS} of {len(rows)} rows; all are in the CSV file."
    notes = [
        PAIR_NOTE if "pair" in by else AREA_NOTE,
        *([more] if len(rows) > MAX_ROWS else []),
        *fmt.few_groups_note(study),
    ]
    columns = [*by, *LABELS.values()]
    title = f"{title}{fmt.dagger(study)}"
    return Table(name, title, columns, rows[:MAX_ROWS], notes, left=2, data=data)
