"""FROC curves of one or more detection systems, from their candidates and the list of lesions."""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer import statistics as stats
from stagetransfer.csv_records import records
from stagetransfer.errors import UserError
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.run import Run
from stagetransfer.runs.verdict import why_not_compared
from stagetransfer.statistics import Curve, Detections, Interval


class _System(NamedTuple):
    """The candidates of one system: their case, lesion and score."""

    name: str
    path: Path  # its name if two systems have the same one
    rows: pd.DataFrame
    source: Path  # the file to correct after an error
    run: Run | None = None


def read_systems(
    paths: Sequence[Path],
    lesions: Path,
    *,
    table: Path | None = None,
    positive: str | None = None,
    by_case: bool = False,
) -> tuple[dict[str, Detections], dict[str, Run]]:
    """Return the detections by system, which is named as the stem of its file or as its run.

    The second mapping holds the systems that are runs.

    Each path is a CSV file of candidates with the columns case, lesion (empty: none is hit) and
    score, or a finished run. Each test image of a run is a candidate: its case is its group, its
    score is the probability of `positive` (None: the second of two classes), and the CSV file
    `table` has its columns file and lesion. The CSV file `lesions` has the columns case and lesion,
    with an empty lesion for a case without; if it has a column split, only the rows of the split
    test count. With `by_case`, all lesions of a case count as one.
    """
    listed = _read_csv(lesions, ("case", "lesion"))
    if "split" in listed:
        listed = listed[listed["split"].str.lower() == "test"]
        if listed.empty:
            raise UserError(
                f"{lesions}: no row has the split test, and only these count. Add rows of the test "
                "set, or remove the column split."
            )
    known = list(zip(listed["case"], listed["lesion"], strict=True))
    found = [system for path in paths for system in _read_path(path, table, positive)]
    try:  # without candidates first, to find the errors of this file
        stats.collect_detections([], [], [], all_lesions=known)
    except ValueError as error:
        raise UserError(f"{lesions}: {error}. List each lesion and each case once.") from error
    unique = len({system.name for system in found}) == len(found)
    systems: dict[str, Detections] = {}
    for system in found:
        name = system.name if unique else str(system.path)
        if name in systems:
            raise UserError(f"{system.name}: given twice. Give each system once.")
        cases, hits = list(system.rows["case"]), list(system.rows["lesion"])
        scores = pd.to_numeric(system.rows["score"], errors="coerce").to_numpy()
        try:
            systems[name] = stats.collect_detections(cases, hits, scores, all_lesions=known)
        except ValueError as error:
            raise UserError(f"{system.source}: {error}. Correct this file or {lesions}.") from error
        if by_case:
            of_cases = sorted({(case, "any" if lesion else "") for case, lesion in known})
            hits = ["any" if hit else "" for hit in hits]
            systems[name] = stats.collect_detections(cases, hits, scores, all_lesions=of_cases)
    return systems, {name: of.run for name, of in zip(systems, found, strict=True) if of.run}


def compare_systems(
    systems: Mapping[str, Detections], rates: Sequence[float], count: int, runs: Mapping[str, Run]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return the tables figures, pairs and curves of all systems, and lines to show.

    Figures are the sensitivities at `rates`, mean numbers of false positives per case, and their
    mean, with 95 % intervals from a bootstrap over cases that all systems share; with the rates of
    `statistics.CPM`, the mean is the competition performance metric. Pairs are the differences,
    which the lines say too, before the limits. Systems that are `runs` are compared only if they
    learned.
    """
    resamples = stats.resample_cases(next(iter(systems.values())), count=count)
    metrics = [*(f"sensitivity_at_{rate:g}" for rate in rates), "mean_sensitivity"]

    def measure(curve: Curve) -> NDArray[np.float64]:
        at = curve.sensitivity_at(rates)
        return np.concatenate([at, at.mean(1, keepdims=True)], axis=1)

    values = {
        name: stats.resampled_froc(resamples, found, measure) for name, found in systems.items()
    }
    figures, curves, pairs, sentences, notes = [], [], [], [], []
    for system, found in systems.items():
        for i, metric in enumerate(metrics):
            result = stats.interval(resamples, values[system][:, :, i]).clipped()
            figures.append((system, metric, result.estimate, result.low, result.high))
        curve = stats.froc(found)
        rows = zip(curve.thresholds, curve.false_positives[0], curve.sensitivity[0], strict=True)
        curves += [(system, *row) for row in rows]
        if (end := curve.false_positives[0, -1]) < max(rates):
            notes.append(
                f"{system}: its candidates end at {end:.3g} false positives a case; at higher "
                "rates its last sensitivity is used"
            )
    few = stats.few_groups(resamples.labels, None, resamples.classes)
    if too_few := ", ".join(f"cases {name} lesions ({n})" for name, n in few.items() if n):
        notes.append(f"fewer than ten {too_few}: the intervals are not reliable")
    for b, a in combinations(systems, 2):
        refusal = why_not_compared(*((name, [runs[name]]) for name in (a, b) if name in runs))
        if refusal:
            sentences.append(stats.sentence(a, b, Interval.undefined(), refusal=refusal))
        for i, metric in enumerate(metrics):
            gap = Interval.undefined()
            if not refusal:
                both = (values[name][:, :, i] for name in (a, b))
                gap = stats.difference(resamples, *both).clipped(lowest=-1.0)
                # A table has no seeds, so the sentence must not mention them.
                text = stats.sentence(a, b, replace(gap, seeds_resampled=True), few=too_few)
                sentences.append(f"{metric}: {text}")
            pairs.append((a, b, metric, gap.estimate, gap.low, gap.high, gap.p_value, refusal))
    numbers = ["figure", "estimate", "low", "high"]
    points = ["threshold", "false_positives_per_case", "sensitivity"]
    tables = {
        "figures": pd.DataFrame(figures, columns=["system", *numbers]),
        "pairs": pd.DataFrame(pairs, columns=["a", "b", *numbers, "p", "not_compared"]),
        "curves": pd.DataFrame(curves, columns=["system", *points]),
    }
    return tables, [*sentences, *notes]


def _read_path(path: Path, table: Path | None, positive: str | None) -> Iterator[_System]:
    if not path.is_dir():
        yield _System(path.stem, path, _read_csv(path, ("case", "lesion", "score")), path)
        return
    runs, _ = read_runs(find_runs([path]))
    if not runs:
        raise UserError(f"{path}: no finished run. Wait for one, or give another folder.")
    if table is None:
        raise UserError(
            f"{path}: holds runs, and the lesions that their images hit are unknown. Give --table, "
            "a CSV file with the columns file and lesion."
        )
    hits = _read_csv(table, ("file", "lesion"))
    for run in runs:
        rows = _run_candidates(run, table, hits, positive)
        yield _System(run.name, run.folder, rows, table, run)


def _run_candidates(
    run: Run, table: Path, hits: pd.DataFrame, positive: str | None
) -> pd.DataFrame:
    """Return one candidate per test image, with the columns case, lesion and score."""
    classes = ", ".join(run.classes)
    if run.groups is None:
        raise UserError(
            f"{run.folder}: its images have no patient, so their cases are unknown. Give runs on "
            "data with patients."
        )
    if positive is None and len(run.classes) != 2:
        raise UserError(f"--positive: not given. State which of {classes} is the class of lesions.")
    positive = positive or run.classes[1]
    if positive not in run.classes:
        raise UserError(f"--positive {positive}: none of the classes {classes}. Give one of them.")
    files = [posixpath.normpath(file.replace("\\", "/")) for file in hits["file"]]
    lesion = dict(zip(files, hits["lesion"], strict=True))
    if lacking := [name for name in run.ids if name not in lesion]:
        raise UserError(f"{table}: no row for {lacking[0]}, a test image of {run.name}. Add it.")
    scores = run.probabilities[:, run.classes.index(positive)]
    hit = [lesion[name] for name in run.ids]
    return pd.DataFrame({"case": run.groups, "lesion": hit, "score": scores})


def _read_csv(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table with these columns as text; the first of them is never empty."""
    rows = list(records(file, columns, f"give a CSV file with {', '.join(columns)}"))
    for line, cells in rows:
        if not cells[columns[0]]:
            raise UserError(f"{file}: line {line} names no {columns[0]}. Fill it in.")
    names = list(rows[0][1] if rows else columns)
    return pd.DataFrame([cells for _, cells in rows], columns=pd.Index(names))
