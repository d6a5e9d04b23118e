"""Table 2 at one ratio: the test metrics of each condition."""

from itertools import product
from math import nan

import pandas as pd

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Table, data_frame
from stagetransfer.reporting.published_results import TABLE_2
from stagetransfer.runs.study import Study

PAPER_NOTE = (
    "paper: Suzuki et al. 2018, Table 2 (one training, 927 images of other data). The paper states "
    "neither an interval nor how precision and recall are averaged."
)
MACRO_NOTE = (
    "Precision, recall, F1 and AUROC are macro averages over the classes. Cross-entropy is in nats."
)


def table_2(study: Study, ratio: float) -> Table:
    """Return Table 2 at a ratio; its CSV file also has the spread over seeds.

    At r = 1 the results of Suzuki et al. 2018 are beside those of the runs.
    """
    data = _data(study, ratio)
    rows = []
    for name, papers in data.groupby("condition", sort=False)["paper"]:
        condition = str(name)
        means = [fmt.cell(study, condition, ratio, metric) for metric in fmt.LABELS]
        seeds = fmt.seeds(study, study.at(condition, ratio))
        rows.append([fmt.marked(study, condition, ratio), seeds, *means])
        if papers.notna().any():
            rows.append([f"{condition} (paper)", fmt.DASH, *(fmt.number(x, 4) for x in papers)])
    at, suffix = f"r = {fmt.ratio(ratio)}", fmt.table_suffix(study, ratio)
    absent = [name for name in study.conditions if not study.at(name, ratio)]
    one_seed = data[data["seeds"] == 1]["condition"].unique()
    groups = "groups unknown" if study.groups is None else fmt.count(study.num_groups, "group")
    images = fmt.count(len(study.labels), "test image")
    notes = [
        f"Mean over seeds, with the 95 % interval{fmt.dagger(study)} below it; {images} "
        f"({groups}). {MACRO_NOTE}",
        *([f"No finished run at {at}: {fmt.join(absent)}."] if absent else []),
        *([PAPER_NOTE] if data["paper"].notna().any() else []),
        *([f"One seed only: {fmt.join(one_seed)}. The interval does not include the variance over "
           "seeds, which is unknown."] if len(one_seed) else []),
        *fmt.few_groups_note(study),
    ]  # fmt: skip
    title = f"Table 2. Test metrics at {at}"
    columns = ["condition", "seeds", *fmt.LABELS.values()]
    return Table(f"table2{suffix}", title, columns, rows, notes, data=data)


def _data(study: Study, ratio: float) -> pd.DataFrame:
    groups = None if study.groups is None else study.num_groups
    test_set = (len(study.labels), groups, bool(study.few))
    rows = []
    for condition, metric in product(study.conditions, fmt.LABELS):
        if runs := study.at(condition, ratio):
            values = study.values(runs, metric)[0]
            result = study.interval(condition, ratio, metric)
            sd = values.std(ddof=1) if len(values) > 1 else nan
            counts = (len(runs), sum(not run.learned for run in runs))
            spread = (sd, values.min(), values.max(), result.low, result.high, *counts)
            published = TABLE_2.get(metric, {}) if ratio == 1 and study.with_paper else {}
            paper = published.get(condition, nan)
            rows.append((condition, ratio, metric, result.estimate, *spread, *test_set, paper))
    columns = (
        "condition ratio figure mean sd min max low high seeds runs_not_learned images groups "
    )
    return data_frame(f"{columns} few_groups paper", rows)
