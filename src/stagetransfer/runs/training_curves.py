"""Validation metrics during training, from the CSV files that Lightning's CSVLogger writes.

Each stage of a run has a folder `logs/<n>-<stage>`, n from 1. A training that was interrupted and
resumed leaves the rows from before the interruption in metrics-1.csv, metrics-2.csv and so on, and
its last rows in metrics.csv.
"""

import re
from pathlib import Path

import pandas as pd
from pandas.errors import EmptyDataError

from stagetransfer.errors import UserError, cause
from stagetransfer.runs.run import Run

PREFIX = "validation/"
ADVICE = "Remove the file to report without its curve."


def validation_curve(run: Run) -> pd.DataFrame:
    """Return the validation metrics of a run's target stage; see `stage_curve`."""
    return stage_curve(run.folder / "logs" / f"{len(run.chain)}-{run.chain[-1]}")


def stage_curve(folder: Path) -> pd.DataFrame:
    """Return the validation metrics of the stage whose logs are in this folder, one row per epoch.

    The columns are `epoch` (from 1), `batches` (mini-batches trained on until then) and one per
    logged metric, such as `cross_entropy`. An epoch that was trained again after an interruption
    has its later values. Of a training that has just begun, or of a run of an earlier version,
    there are no such files; the table is then empty.
    """
    tables = [
        _read(file) for file in sorted(folder.glob("metrics*.csv"), key=_number) if file.is_file()
    ]
    rows = pd.concat(tables) if tables else pd.DataFrame()
    metrics = [name for name in rows.columns if name.startswith(PREFIX)]
    if not metrics:
        return pd.DataFrame(columns=pd.Index(["epoch", "batches"]), dtype=float)
    # Each logging call is a row of its own, in which the columns of other calls are empty.
    curve = rows.dropna(subset=metrics, how="all")
    if curve["epoch"].is_unique and curve["epoch"].notna().all():
        curve = curve.sort_values("epoch", ignore_index=True)  # the same, ten times as fast
    else:
        curve = curve.groupby("epoch", as_index=False).last()
    curve = curve[["epoch", "step", *metrics]].astype({"epoch": int, "step": int})
    curve[["epoch", "step"]] += 1  # Lightning counts both from 0
    names = {name: name.removeprefix(PREFIX) for name in metrics}
    return curve.rename(columns={**names, "step": "batches"})


def _number(file: Path) -> float:
    """Return the place of a file in time: metrics.csv, which has no number, is the latest."""
    found = re.search(r"-(\d+)$", file.stem)
    return int(found[1]) if found else float("inf")


def _read(file: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(file)
    except EmptyDataError:  # interrupted before the first row
        return pd.DataFrame()
    except ValueError as error:
        raise UserError(f"{file}: cannot be read as CSV ({cause(error)}). {ADVICE}") from error
    if lacking := {"epoch", "step"} - {*table.columns}:
        raise UserError(f"{file}: no column {', '.join(sorted(lacking))}. {ADVICE}")
    return table
