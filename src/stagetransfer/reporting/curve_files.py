"""Where curves come from and where they go: runs in, CSV tables and plots out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from stagetransfer.errors import UserError
from stagetransfer.figures import save_figure
from stagetransfer.files import write_text
from stagetransfer.runs.comparability import check_comparable, select
from stagetransfer.runs.pooled_folds import pool
from stagetransfer.runs.reader import Run, find_runs, read_runs
from stagetransfer.runs.study import rank
from stagetransfer.runs.tuning_depth import name_depths


def gather_runs(paths: Sequence[Path], only: Sequence[str] = ()) -> tuple[list[Run], list[str]]:
    """The finished runs at `paths`, judged on one test set, and the names of the unfinished.

    The runs on the folds of a split file are pooled; all stand in the report's order of
    conditions, then of ratio and seed. only: "key=value" of config.yaml that a run must have.
    Raises UserError if there is no finished run, or if runs can't be compared.
    """
    finished, unfinished = read_runs(find_runs(paths))
    runs, others = name_depths(select(finished, only), select(unfinished, only))
    if not runs:
        said = f" with {' '.join(only)}" if only else ""
        raise UserError(f"{paths[0]}: no finished run{said}; wait for one, or give other folders")
    runs, others = pool(runs, others)
    check_comparable(runs)
    runs.sort(key=lambda run: (rank(run.condition), run.ratio, run.seed))
    return runs, [run.folder.name for run in others]


def write(out: Path, tables: Mapping[str, pd.DataFrame], plots: Mapping[str, Figure]) -> None:
    """Writes <name>.csv, and <name>.png and .svg without a date: the same numbers, the same
    files."""
    for name, table in tables.items():
        write_text(out / f"{name}.csv", table.to_csv(index=False))
    for name, figure in plots.items():
        save_figure(figure, out / name)
