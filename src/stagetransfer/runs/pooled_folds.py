"""Runs on the folds of one split file, pooled: a test set in which each image occurs once."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np

from stagetransfer.errors import UserError
from stagetransfer.runs.comparability import check_same_data, check_same_recipe, check_unique
from stagetransfer.runs.run import LEARNED, Replicate, Run, UnfinishedRun


def pool_folds(
    runs: Sequence[Run], unfinished: Sequence[UnfinishedRun] = ()
) -> tuple[list[Run], list[UnfinishedRun]]:
    """Return the runs, with one pooled run per condition, ratio and seed in place of its folds.

    A pooled run holds the predictions of the runs on all folds, so each image is predicted by the
    one model that was not trained on its fold. Where a fold has no finished run, the pooled run is
    returned among the unfinished. If all runs are on the same fold, they share their test set and
    are returned as they are. UserError if runs cannot be pooled, or nothing has runs on all folds.
    """
    whole = [run for run in runs if run.fold is None]
    folded = [run for run in runs if run.fold is not None]
    if not whole and len({run.fold for run in folded}) == 1:
        return list(runs), list(unfinished)
    by_place: dict[tuple[str, float, Replicate], dict[int, Run]] = {}
    for run in folded:
        if {**_splits(folded[0]), "fold": 0} != {**_splits(run), "fold": 0}:
            raise UserError(
                f"{folded[0].name} and {run.name} cannot be compared: their folds come from "
                "different split files, or the file was changed between them. Report them "
                "separately."
            )
        by_fold = by_place.setdefault((run.condition, run.ratio, run.replicate), {})
        twin = by_fold.setdefault(_splits(run)["fold"], run)
        check_unique(twin, run, "condition, ratio, seeds and fold")
    pooled, incomplete = list[Run](), list[UnfinishedRun]()
    for by_fold in by_place.values():
        first = next(iter(by_fold.values()))
        count = _splits(first)["folds"]
        if absent := [number for number in range(count) if number not in by_fold]:
            missing = f"fold {', '.join(map(str, absent))} of 0 to {count - 1} has no finished run"
            folder = first.folder.with_name(_pooled_name([*by_fold.values()]))
            incomplete.append(UnfinishedRun(folder, first.place, None, first.config, missing))
        else:
            pooled.append(_pool([by_fold[number] for number in range(count)]))
    if not whole and not pooled:
        raise UserError(
            f"{incomplete[0].folder.name}: {incomplete[0].missing_folds}; no condition has "
            "runs on all folds. Wait for them, or report one fold with --only "
            f"domain.{folded[0].chain[-1]}.fold=0."
        )
    return [*whole, *pooled], [*unfinished, *incomplete]


def _pool(folds: Sequence[Run]) -> Run:
    """Return one run with the predictions of all folds in their order, else as the first fold."""
    fold_key = f"domain.{folds[0].chain[-1]}.fold"
    configs = ({k: v for k, v in run.config.items() if k != fold_key} for run in folds)
    alike = [replace(run, config=config) for run, config in zip(folds, configs, strict=True)]
    first = alike[0]
    tested_by: dict[str, Run] = {}
    for run in alike:
        check_same_data(first, run)
        check_same_recipe(first, run, ignore_place=True)  # each fold has teachers of its own
        for name in run.ids:
            if tested_by.setdefault(name, run) is not run:
                raise UserError(
                    f"{tested_by[name].name} and {run.name}: both were tested on {name!r}, though "
                    "on different folds. Run one of them again with force=true."
                )
    groups = tuple(group for run in folds for group in run.groups or ())
    failed = [run.verdict for run in folds if not run.learned]
    verdict = f"{failed[0]} in {len(failed)} of {len(folds)} folds" if failed else LEARNED
    return replace(
        first,
        folder=first.folder.with_name(_pooled_name(folds)),
        ids=tuple(name for run in folds for name in run.ids),
        groups=groups if all(run.groups for run in folds) else None,
        labels=np.concatenate([run.labels for run in folds]),
        probabilities=np.concatenate([run.probabilities for run in folds]),
        splits={**_splits(first), "fold": None},
        folds=tuple(folds),
        verdict=verdict,
    )


def _splits(run: Run) -> dict[str, Any]:
    assert run.splits is not None
    return dict(run.splits)


def _pooled_name(folds: Sequence[Run]) -> str:
    """Return the name of the pooled run, which depends on all its runs; no folder has this name."""
    digest = sha256(" ".join(sorted(run.name for run in folds)).encode()).hexdigest()[:8]
    return f"{folds[0].name.rpartition('-')[0]}-{digest}-{_splits(folds[0])['folds']}folds"
