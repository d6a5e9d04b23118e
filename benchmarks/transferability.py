"""How well published scores choose a source: python -m benchmarks.transferability DATA

DATA has AUCs_dataset.csv, the AUC after fine-tuning from 14 source data sets to 12 targets, and
<score>_dataset.csv (Juodelyte et al. 2024, arXiv 2412.20172). For each target the sources are
ranked by a score, by their mean rank on the other targets (the prior), or by the mean of ranks.
Intervals are 95 % intervals over the targets, by bootstrap.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.tables import show, with_interval
from stagetransfer.advise.judge import agreement, over_targets

SCORES = ("leep", "nleep", "logme", "lp", "ncti", "parc", "sfda", "fu")
LARGE = ("imagenet", "radimagenet")
COMBINED = ("nleep", "logme", "lp")  # chosen before looking: no source labels, no gradients

Ranks = Callable[[str], pd.Series]


def main() -> None:
    """Print the table with all sources, and without the two large ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    read = {name: _table(data / f"{name}_dataset.csv") for name in ("AUCs", *SCORES)}
    for left_out in ((), LARGE):
        tables = {name: table.drop(index=list(left_out)) for name, table in read.items()}
        title = f"without {' and '.join(left_out)}" if left_out else "all sources"
        show(title, COLUMNS, [_row(name, tables, of) for name, of in _methods(tables).items()])


COLUMNS = ("ranked by", "targets", "weighted tau", "points of AUC lost by the pick")


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col="source").drop(columns="Unnamed: 0")


def _methods(tables: dict[str, pd.DataFrame]) -> dict[str, Ranks]:
    truth = tables["AUCs"]

    def prior(target: str) -> pd.Series:
        return truth.drop(columns=target).rank().mean(axis=1)

    def by(name: str) -> Ranks:
        return lambda target: tables[name][target].rank()

    def combined(target: str) -> pd.Series:
        parts = [tables[name][target].rank() for name in COMBINED]
        return (prior(target).rank() + sum(parts) / len(parts)) / 2

    found: dict[str, Ranks] = {"prior": prior, f"prior and {', '.join(COMBINED)}": combined}
    if "imagenet" in truth.index:
        found["always ImageNet"] = lambda _: pd.Series(truth.index == "imagenet", truth.index) * 1.0
    found["at random"] = lambda _: pd.Series(0.0, truth.index)
    return found | {name: by(name) for name in SCORES}


def _row(name: str, tables: dict[str, pd.DataFrame], ranks: Ranks) -> list[str]:
    taus, lost = [], []
    shared = [str(one) for one in tables["AUCs"] if all(one in table for table in tables.values())]
    for target in shared:
        tau, less = agreement(tables["AUCs"][target].dropna(), ranks(target))
        lost.append(100 * less)
        taus += [tau] if ranks(target).nunique() > 2 else []
    found = (over_targets(values) for values in (taus, lost))
    shown = [with_interval(one.estimate, one.low, one.high) for one in found]
    return [name, str(len(shared)), *shown]


if __name__ == "__main__":
    main()
