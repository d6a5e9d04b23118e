"""Runs on the folds of one split file, pooled: one test set in which each image stands once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from stagetransfer.errors import UserError
from stagetransfer.runs.comparability import config_words
from stagetransfer.runs.reader import Run, Unfinished


def pool(
    runs: Sequence[Run], unfinished: Sequence[Unfinished] = ()
) -> tuple[list[Run], list[Unfinished]]:
    """The runs, those on the folds of a split file pooled: one for each condition, ratio and seed.

    A pooled run holds the predictions of all its folds' runs, each image predicted by the one
    model that never saw its fold. A place without a run for each fold is handed back among the
    unfinished, with the folds it lacks. Runs that are all on one and the same fold share their
    test set already, and stay as they are.

    Raises:
        UserError: the folds are of several files, two runs are on the same fold, runs on folds of
            one place differ in more than the fold, or no place has all its folds.
    """
    whole = [run for run in runs if run.fold is None]
    folded = [run for run in runs if run.fold is not None]
    if not whole and len({run.fold for run in folded}) == 1:
        return list(runs), list(unfinished)
    places: dict[tuple[str, float, int], dict[int, Run]] = {}
    for run in folded:
        _check_same_file(folded[0], run)
        of_place = places.setdefault(run.place, {})
        twin = of_place.setdefault(run.splits["fold"], run)  # type: ignore[index]
        if twin is not run:
            raise UserError(
                f"{twin.name} and {run.name} are the same condition, ratio, seed and fold, but "
                f"differ in {config_words(twin, run, ()) or 'their hash'}; report one of them, or "
                "use --only KEY=VALUE"
            )
    pooled, lacking = list[Run](), list[Unfinished]()
    for place, by_fold in places.items():
        first = next(iter(by_fold.values()))
        assert first.splits is not None
        count = first.splits["folds"]
        if absent := [number for number in range(count) if number not in by_fold]:
            lacks = f"fold {', '.join(map(str, absent))} of 0 to {count - 1} has no finished run"
            folder = first.folder.with_name(_name(first))
            lacking.append(Unfinished(folder, place, None, first.config, lacks))
        else:
            pooled.append(_pooled([by_fold[number] for number in range(count)]))
    if not whole and not pooled:
        raise UserError(
            f"no condition has runs on all folds: of {lacking[0].folder.name}, "
            f"{lacking[0].lacks}; wait for them, or use --only domain.{folded[0].chain[-1]}.fold=0"
        )
    return [*whole, *pooled], [*unfinished, *lacking]


def _pooled(folds: Sequence[Run]) -> Run:
    """One run of all folds' predictions, in their order; the rest is the first fold's."""
    first = folds[0]
    fold_key = f"domain.{first.chain[-1]}.fold"
    seen: dict[str, Run] = {}
    for run in folds:
        both = f"{first.name} and {run.name} are folds of one condition, but "
        if run.chain != first.chain or run.classes != first.classes:
            raise UserError(f"{both}have other chains or classes; report them apart")
        if run.fingerprint != first.fingerprint:
            raise UserError(
                f"{both}their target's data differ (fingerprints {first.fingerprint} and "
                f"{run.fingerprint}); report them apart"
            )
        if unlike := config_words(first, run, (fold_key,)):
            raise UserError(f"{both}differ in {unlike}; use --only KEY=VALUE")
        for name in run.ids:
            if seen.setdefault(name, run) is not run:
                raise UserError(
                    f"{seen[name].name} and {run.name} were both tested on {name!r}, though on "
                    "other folds; run one of them anew with force=true"
                )
    groups = [run.groups for run in folds if run.groups is not None]
    return replace(
        first,
        folder=first.folder.with_name(_name(first)),
        ids=tuple(chain.from_iterable(run.ids for run in folds)),
        groups=tuple(chain.from_iterable(groups)) if len(groups) == len(folds) else None,
        labels=np.concatenate([run.labels for run in folds]),
        probabilities=np.concatenate([run.probabilities for run in folds]),
        config={key: value for key, value in first.config.items() if key != fold_key},
        splits={**(first.splits or {}), "fold": None},
        folds=tuple(folds),
    )


def _name(run: Run) -> str:
    """Of the pooled run: no folder has it."""
    assert run.splits is not None
    stem = run.name.rpartition("-")[0]
    return f"{stem}-{run.splits['folds']}folds"


def _check_same_file(a: Run, b: Run) -> None:
    assert a.splits is not None
    assert b.splits is not None
    if {**a.splits, "fold": 0} != {**b.splits, "fold": 0}:
        raise UserError(
            f"{a.name} and {b.name} can't be compared: they are on folds of other split files, or "
            "the file was changed between them; report them apart"
        )
