"""Gather the finished runs at some paths for one report, board or set of curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stagetransfer.errors import UserError
from stagetransfer.runs.comparability import check_comparable, runs_with
from stagetransfer.runs.pooled_folds import pool_folds
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.run import Run, UnfinishedRun
from stagetransfer.runs.study import condition_order, run_order
from stagetransfer.runs.tuning_depth import name_depths, split_depth


@dataclass(frozen=True)
class Gathered:
    """One or more comparable runs, sorted, and the outputs folder of the first run by name.

    `conditions` are those that were asked for, also without a run; None: all that were found.
    """

    runs: list[Run]
    unfinished: list[UnfinishedRun]
    outputs: Path
    conditions: list[str] | None = None


def gather_runs(
    paths: Sequence[Path], *, only: Sequence[str] = (), conditions: Sequence[str] = ()
) -> Gathered:
    """Read all runs at `paths`, name their tuning depths, pool their folds and check them.

    The paths are as for `find_runs`. `only` are settings of config.yaml that a run must have, each
    "key=value". `conditions` are the only ones that count; empty: all. UserError if there is no
    finished run, or if runs cannot be read or compared.
    """
    folders = find_runs(paths)
    finished, unfinished = read_runs(folders)
    if not finished:
        raise UserError(
            f"{paths[0]}: none of {len(folders)} runs is finished (none has metrics.json). Wait "
            "for one, or continue the sweep with its command."
        )
    runs, unfinished = name_depths(runs_with(finished, only), runs_with(unfinished, only))
    if not runs:
        raise UserError(
            f"--only {' '.join(only)}: no finished run has this in its config.yaml. Give a value "
            "that a run has, or other folders."
        )
    asked = None
    if conditions:
        asked = _with_depths(conditions, runs)
        known = sorted({run.condition for run in runs})
        runs = [run for run in runs if run.condition in asked]
        unfinished = [run for run in unfinished if run.place and run.place[0] in asked]
        if not runs:
            raise UserError(
                f"--conditions {','.join(conditions)}: no finished run has one of them. Found: "
                f"{', '.join(known)}."
            )
    runs, unfinished = pool_folds(runs, unfinished)
    check_comparable(runs)
    runs.sort(key=run_order)
    return Gathered(runs, unfinished, folders[0].parent.parent, asked)


def _with_depths(conditions: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """Return the conditions in order, and in place of one with several tuning depths all these."""
    found = {run.condition for run in runs}
    named = {name: [x for x in found if name in (x, split_depth(x)[0])] for name in conditions}
    every = {name for asked, of in named.items() for name in of or [asked]}
    return sorted(every, key=condition_order)
