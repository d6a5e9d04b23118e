"""Gather the finished runs at some paths for reports, boards or sets of curves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from stagetransfer.errors import UserError
from stagetransfer.files import default_folder
from stagetransfer.runs.comparability import check_comparable, runs_with
from stagetransfer.runs.data_sets import by_data_set, of_data_set
from stagetransfer.runs.pooled_folds import pool_folds
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.run import Run, UnfinishedRun
from stagetransfer.runs.study import condition_order, run_order
from stagetransfer.runs.training_shares import Share, by_share
from stagetransfer.runs.tuning_depth import name_depths, split_depth

log = logging.getLogger(__name__)
T = TypeVar("T")

DATA_SET = "data_set="


@dataclass(frozen=True)
class Gathered:
    """One or more comparable runs, sorted, and the outputs folder of the first run by name.

    `conditions` are those that were asked for, also without a run; None: all that were found.
    `data_set` is the name of their data set if the paths hold several; what is written about the
    runs is then in a folder of this name. `by_share` has the runs against each share of the
    training set that varies, and `not_shown` the names of those without a place; see
    `training_shares.by_share`.
    """

    runs: list[Run]
    unfinished: list[UnfinishedRun]
    outputs: Path
    conditions: list[str] | None = None
    data_set: str = ""
    by_share: Mapping[Share, Gathered] = field(default_factory=dict)
    not_shown: Sequence[str] = ()


def write_each(
    write: Callable[[Gathered, Path], T],
    paths: Sequence[Path],
    out: Path | None,
    name: str,
    *,
    only: Sequence[str] = (),
    conditions: Sequence[str] = (),
    shares: bool = False,
) -> tuple[list[T], list[str]]:
    """Write about the runs of each data set: call `write` with the runs and a folder.

    Return what it returned, and why other runs are left out, which is also logged. The folder is
    `out`, or the folder `name` beside the runs; each of several data sets has one within it.
    UserError if `write` refuses the runs of every data set.
    """
    found, errors, left_out = gather_data_sets(
        paths, only=only, conditions=conditions, shares=shares
    )
    written = []
    for one in found:
        try:
            folder = default_folder(one.outputs, name) if out is None else out
            written.append(write(one, folder / one.data_set))
        except UserError as error:
            errors[one.data_set] = error
    if not written:
        raise next(iter(errors.values()))
    left_out += [f"data set {name}: {error}" for name, error in errors.items()]
    for line in left_out:
        log.warning("left out: %s", line)
    return written, left_out


def gather_data_sets(
    paths: Sequence[Path],
    *,
    only: Sequence[str] = (),
    conditions: Sequence[str] = (),
    shares: bool = False,
) -> tuple[list[Gathered], dict[str, UserError], list[str]]:
    """Read all runs at `paths`, as for `find_runs`, and gather them as `group_runs` does.

    UserError if there is no finished run.
    """
    folders = find_runs(paths)
    finished, unfinished = read_runs(folders)
    if not finished:
        raise UserError(
            f"{paths[0]}: none of {len(folders)} runs is finished (none has metrics.json). Wait "
            "for one, or continue the sweep with its command."
        )
    return group_runs(finished, unfinished, only=only, conditions=conditions, shares=shares)


def group_runs(
    finished: Sequence[Run],
    unfinished: Sequence[UnfinishedRun],
    *,
    only: Sequence[str] = (),
    conditions: Sequence[str] = (),
    shares: bool = False,
) -> tuple[list[Gathered], dict[str, UserError], list[str]]:
    """Gather the runs of each data set, of one or more finished runs.

    Also return why those of other data sets cannot be compared, and a line for each unfinished run
    of a data set without a finished one. Of each data set, tuning depths are named, folds pooled
    and runs checked. `only` are settings of config.yaml that a run must have, each "key=value"; the
    key data_set stands for the name of the data set. `conditions` are the only ones that count;
    empty: all. With `shares`, runs that differ in how their training sets were made worse are set
    apart (`Gathered.by_share`); otherwise they cannot be compared. UserError if no run has the
    settings.
    """
    folders = [*(run.folder for run in finished), *(run.folder for run in unfinished)]
    first = min(folders, key=lambda folder: folder.name)
    named = by_data_set(finished)
    of_config = [one for one in only if not one.startswith(DATA_SET)]
    wanted = {one.removeprefix(DATA_SET) for one in only if one.startswith(DATA_SET)}
    chosen = {
        name: kept
        for name, runs in named.items()
        if wanted <= {name} and (kept := runs_with(runs, of_config))
    }
    if not chosen:
        raise UserError(
            f"--only {' '.join(only)}: no finished run has this in its config.yaml. Give a value "
            f"that a run has, or other folders. Data sets: {', '.join(named)}."
        )
    places = [next(iter(named)) if len(named) == 1 else of_data_set(x, named) for x in unfinished]
    found, errors = list[Gathered](), dict[str, UserError]()
    for name, runs in chosen.items():
        without = [run for run, of in zip(unfinished, places, strict=True) if of == name]
        try:
            one = _gather(runs, runs_with(without, of_config), conditions, shares)
            shown = name if len(named) > 1 else ""
            found.append(replace(one, outputs=first.parent.parent, data_set=shown))
        except UserError as error:
            errors[name] = error
    left_out = [
        f"{run.folder.name}: {run.reason}, and no run of its data set is finished"
        for run, of in zip(unfinished, places, strict=True)
        if of is None and not wanted
    ]
    return found, errors, left_out


def _gather(
    runs: Sequence[Run],
    unfinished: Sequence[UnfinishedRun],
    conditions: Sequence[str],
    shares: bool,
) -> Gathered:
    """Gather the runs of one data set."""
    runs, unfinished = name_depths(runs, unfinished)
    if not shares:
        return _comparable(runs, unfinished, conditions)
    best, worse, not_shown = by_share(runs, unfinished)
    return replace(
        _comparable(*best, conditions),
        by_share={of: _comparable(*own, conditions) for of, own in worse.items()},
        not_shown=not_shown,
    )


def _comparable(
    runs: Sequence[Run], unfinished: Sequence[UnfinishedRun], conditions: Sequence[str]
) -> Gathered:
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
    return Gathered(runs, unfinished, runs[0].folder.parent.parent, asked)


def _with_depths(conditions: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """Return the conditions in order, and in place of one with several tuning depths all these."""
    found = {run.condition for run in runs}
    named = {name: [x for x in found if name in (x, split_depth(x)[0])] for name in conditions}
    every = {name for asked, of in named.items() for name in of or [asked]}
    return sorted(every, key=condition_order)
