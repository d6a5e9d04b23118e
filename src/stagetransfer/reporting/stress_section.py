"""The results of `stagetransfer stress` in the report, where they lie beside the runs."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stagetransfer.errors import UserError, first_line
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Bullets, Section, Table, Text
from stagetransfer.runs.study import Study
from stagetransfer.statistics import POINTS, Unit

FOLDER = "stress"
FILE = "stress.csv"
COLUMNS = ("column", "estimate", "low", "high")
NOTE = (
    "stagetransfer stress has tested the networks on corrupted images of their own test set, at "
    "r = {}. These results are read from the folder stress. Severity 0 is the unchanged test set, "
    "1-5 is the mean over these severities, and 5-0 is the change from 0 to 5. The page of the "
    "stress test has each corruption."
)
ERROR_NOTE = (
    "Errors relative to those of scratch, mean over the corruptions (Hendrycks and Dietterich "
    "2019): below 1, a condition makes fewer errors."
)
AGAIN = "Run stagetransfer stress again to test all runs."


def stress_sections(study: Study, outputs: Path, data_set: str) -> list[Section]:
    """Return the section, none without a stress test; UserError if its files cannot be read."""
    folder = outputs / FOLDER / data_set
    if not (folder / FILE).is_file():
        return []
    tests = _read(folder / FILE, "run", "ratio")
    tested, runs = {*tests["run"]}, {run.name for run in study.runs}
    lines = []
    if missing := sorted(runs - tested):
        lines.append(f"Not tested on corrupted images: {fmt.join(missing)}. {AGAIN}")
    if others := sorted(map(str, tested - runs)):
        extra = fmt.count(len(others), "run")
        lines.append(f"The stress test has {extra} that this report does not have.")
    blocks: list[Block] = [Bullets(lines, kind="problems")] if lines else []
    if runs & tested:
        blocks.insert(0, Text(NOTE.format(fmt.ratio(float(tests["ratio"].max())))))
        blocks += _tables(study, folder / "tables")
    return [Section("Robustness to corrupted images", blocks)]


def _tables(study: Study, folder: Path) -> list[Table]:
    """Return the tables that have rows on the conditions of the study."""
    means = _read(folder / "severities.csv", "condition", "metric", *COLUMNS)
    of_condition = means["condition"].astype(str).str.split("\n").str[0]
    means, title = means[of_condition.isin(study.conditions)], "Mean over all corruptions"
    tables = [interval_table("stress_severities", title, means, ["condition", "metric"])]
    if (file := folder / "differences.csv").is_file():
        gaps = _read(file, "pair", "corruption", *COLUMNS)
        pairs = [f"{a} - {b}" for a, b in study.condition_pairs()]
        gaps = gaps[gaps["pair"].isin(pairs) & (gaps["corruption"] == "all")]
        title = "Differences in accuracy, mean over all corruptions, in points"
        tables.append(interval_table("stress_differences", title, gaps, ["pair"], unit=POINTS))
    if (file := folder / "relative_error.csv").is_file():
        errors = _read(file, "corruption", *COLUMNS)
        errors = errors[(errors["corruption"] == "all") & errors["column"].isin(study.conditions)]
        name, title = "stress_relative_error", "Mean corruption error relative to scratch"
        tables.append(interval_table(name, title, errors, ["corruption"], [ERROR_NOTE]))
    return [table for table in tables if table.rows]


def interval_table(
    name: str,
    title: str,
    data: pd.DataFrame,
    first: list[str],
    notes: Sequence[str] = (),
    unit: Unit | None = None,
) -> Table:
    """Return a table of the intervals in the rows of `data`, which have COLUMNS.

    It has one row for each value of the columns `first`, and one column for each of `column`. With
    a unit, they are differences.
    """
    rows, names = [], list(dict.fromkeys(data["column"]))
    for key, own in data.groupby(first, sort=False):
        numbers = own.set_index("column")[list(COLUMNS[1:])].reindex(names)
        cells = [
            fmt.difference(x, low, high, unit) if unit else fmt.mean(x, low, high)
            for x, low, high in numbers.to_numpy().tolist()
        ]
        rows.append([*map(str, key), *cells])
    return Table(name, title, [*first, *map(str, names)], rows, notes, data, len(first))


def _read(file: Path, *columns: str) -> pd.DataFrame:
    """Return the columns of a CSV file of a stress test; UserError if it lacks them."""
    cure = "Run stagetransfer stress again, or remove the folder."
    try:
        data = pd.read_csv(file)
        numbers = [name for name in columns if name in ("ratio", *COLUMNS[1:])]
        return data.astype(dict.fromkeys(numbers, float))[list(columns)]
    except (OSError, ValueError, KeyError) as error:
        cause = first_line(error)
        raise UserError(f"{file}: it cannot be read ({cause}). {cure}") from error
