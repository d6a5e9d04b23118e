"""FROC curves of one or two systems, from their candidates and the list of lesions."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stagetransfer.errors import UserError
from stagetransfer.figures import COLOURS, LINES, MARKERS, STYLE
from stagetransfer.reporting.plots import grid, legend
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.run import Run
from stagetransfer.statistics import (
    Curve,
    Detections,
    collect_detections,
    difference,
    few_groups,
    froc,
    interval,
    resample_cases,
    resampled_froc,
    sentence,
)

Array = NDArray[np.float64]

LESION_COLUMNS = ("case", "lesion")
CANDIDATE_COLUMNS = (*LESION_COLUMNS, "score")
HIT_COLUMNS = ("file", "lesion")


@dataclass(frozen=True)
class Froc:
    """What was found. figures: columns system, figure, estimate, low, high. curves: system,
    threshold, false_positives_per_case, sensitivity. pairs: a, b, figure, estimate (a - b), low,
    high, p; empty with one system. words: the pairs, said. notes: to keep in mind."""

    figures: pd.DataFrame
    curves: pd.DataFrame
    pairs: pd.DataFrame
    words: list[str]
    notes: list[str]
    rates: tuple[float, ...]


def read_systems(
    paths: Sequence[Path],
    lesions: Path,
    *,
    table: Path | None = None,
    positive: str | None = None,
    by_case: bool = False,
) -> dict[str, Detections]:
    """Each system by its name: a candidate file's stem, a run's name.

    paths: candidate files, with the columns case, lesion (empty: hits none), score; or finished
    runs, each a system: a test image is a candidate in the case that is its group, its score the
    probability of `positive` (None: the second of two classes), and `table` tells with the columns
    file, lesion what it hits. lesions: columns case, lesion, a row a lesion, and a row with an
    empty lesion for each case without; of a column split only the rows of the test count. by_case:
    all lesions of a case count as one. Raises UserError if a file can't be read, names what is not
    listed, or lacks an image.
    """
    listed = _listed(lesions)
    candidates = _candidates(paths, table, positive)
    known = list(zip(listed["case"], listed["lesion"], strict=True))
    systems = {}
    try:  # with no candidates first, so that an error in this file is said of it
        collect_detections([], [], [], all_lesions=known)
    except ValueError as error:
        raise UserError(f"{lesions}: {error}; list each lesion and each case once") from error
    for name, (source, rows) in candidates.items():
        score = pd.to_numeric(rows["score"], errors="coerce")
        try:
            found = collect_detections(
                list(rows["case"]), list(rows["lesion"]), score.to_numpy(), all_lesions=known
            )
        except ValueError as error:
            raise UserError(f"{source}: {error}; correct it, or {lesions}") from error
        systems[name] = found
        if by_case:
            one = rows["lesion"].where(rows["lesion"] == "", "any")
            of_cases = {case: "any" if count else "" for case, count in _counts(found)}
            systems[name] = collect_detections(
                *(list(rows["case"]), list(one), score.to_numpy()),
                all_lesions=list(of_cases.items()),
            )
    return systems


def compare(systems: Mapping[str, Detections], rates: Sequence[float], count: int = 2000) -> Froc:
    """Sensitivity at `rates` false positives a case and its mean over them, with 95 % intervals
    by a bootstrap over cases that all systems share; each two systems in pairs.

    With the rates of `statistics.CPM` the mean is the competition performance metric.
    """
    first = next(iter(systems.values()))
    resamples = resample_cases(first, count=count)
    names = [*(f"sensitivity_at_{rate:g}" for rate in rates), "mean_sensitivity"]

    def measure(curve: Curve) -> Array:
        at = curve.sensitivity_at(rates)
        return np.concatenate([at, at.mean(1, keepdims=True)], axis=1)

    values = {name: resampled_froc(resamples, found, measure) for name, found in systems.items()}
    figures, pairs, words, curves, notes = [], [], [], [], []
    for system, found in systems.items():
        for i, figure in enumerate(names):
            of_one = interval(resamples, values[system][:, :, i])
            low, high = np.clip([of_one.low, of_one.high], 0, 1).tolist()
            row: dict[str, Any] = {"system": system, "figure": figure}
            figures.append({**row, "estimate": of_one.estimate, "low": low, "high": high})
        curve = froc(found)
        most = curve.false_positives[0, -1]
        points = {
            "threshold": curve.thresholds,
            "false_positives_per_case": curve.false_positives[0],
            "sensitivity": curve.sensitivity[0],
        }
        curves.append(pd.DataFrame({"system": system, **points}))
        if most < max(rates):
            notes.append(
                f"{system}: its candidates end at {most:.3g} false positives a case; beyond, the "
                "last sensitivity is taken"
            )
    few = few_groups(resamples.labels, None, resamples.classes)
    of_cases = [f"cases {name} lesions" for name, number in few.items() if number]
    if of_cases:
        notes.append(f"fewer than ten {', '.join(of_cases)}: the intervals are not to be trusted")
    ordered = list(systems)
    for i, b in enumerate(ordered):
        for a in ordered[i + 1 :]:
            for j, figure in enumerate(names):
                gap = difference(resamples, values[a][:, :, j], values[b][:, :, j])
                numbers = {"estimate": gap.estimate, "low": gap.low, "high": gap.high}
                pairs.append({"a": a, "b": b, "figure": figure, **numbers, "p": gap.p_value})
                # A table has no seeds: the sentence is to say nothing of them.
                said = sentence(a, b, replace(gap, seeds_resampled=True), few=of_cases)
                words.append(f"{figure}: {said}")
    columns = pd.Index(["a", "b", "figure", "estimate", "low", "high", "p"])
    return Froc(
        pd.DataFrame(figures),
        pd.concat(curves, ignore_index=True),
        pd.DataFrame(pairs, columns=columns),
        words,
        notes,
        tuple(rates),
    )


def plot(result: Froc, *, by_case: bool = False) -> Figure:
    """Sensitivity against false positives a case, these on a log axis; bars: 95 % intervals."""
    with mpl.rc_context(STYLE):
        figure, axes = grid(1, 1, (5.2, 4.0))
        axis, rates = axes[0], np.array(result.rates)
        low, high = rates.min() / 1.5, rates.max() * 1.5
        for rank, name in enumerate(result.figures["system"].unique()):
            look: dict[str, Any] = {
                "color": COLOURS[rank % len(COLOURS)],
                "linestyle": LINES[rank % len(LINES)],
            }
            points = result.curves[result.curves["system"] == name]
            x = np.geomspace(low, high, 400)
            xp, yp = points["false_positives_per_case"], points["sensitivity"]
            axis.plot(x, np.interp(x, xp, yp), **look)
            bars = result.figures[result.figures["system"] == name].set_index("figure")
            bars = bars.loc[[f"sensitivity_at_{rate:g}" for rate in rates]]
            at = rates * 1.04**rank  # aside, so that no bar hides another
            axis.vlines(at, bars["low"], bars["high"], color=look["color"], linewidth=1)
            marker = MARKERS[rank % len(MARKERS)]
            axis.plot(at, bars["estimate"], marker, color=look["color"], markersize=4)
            axis.plot([], [], marker=marker, label=name, **look)
        axis.set_xscale("log", base=2)
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
        axis.set(xlim=(low, high), ylim=(-0.02, 1.04))
        axis.set_xlabel("mean false positives a case")
        axis.set_ylabel(f"sensitivity by {'case' if by_case else 'lesion'}")
        legend(figure, axes)
    return figure


def _counts(found: Detections) -> list[tuple[str, int]]:
    return list(zip(found.cases, found.lesions.tolist(), strict=True))


def _listed(lesions: Path) -> pd.DataFrame:
    """case and lesion of all that count."""
    rows = _read(lesions, LESION_COLUMNS, ("split",))
    if "split" not in rows:
        return rows
    of_test = rows[rows["split"].str.lower() == "test"]
    if of_test.empty:
        raise UserError(f"{lesions}: no row has the split test, and only these count")
    return of_test


def _candidates(
    paths: Sequence[Path], table: Path | None, positive: str | None
) -> dict[str, tuple[Path, pd.DataFrame]]:
    """By name: where it comes from, and case, lesion, score."""
    found: list[tuple[str, Path, pd.DataFrame]] = []
    for path in paths:
        if not path.is_dir():
            found.append((path.stem, path, _read(path, CANDIDATE_COLUMNS)))
            continue
        runs, _ = read_runs(find_runs([path]))
        if not runs:
            raise UserError(f"{path}: no finished run; wait for one, or give another folder")
        if table is None:
            raise UserError(f"{path}: of runs --table must tell, by file, which lesion each hits")
        hits = _read(table, HIT_COLUMNS)
        found += [(run.name, table, _of_run(run, table, hits, positive)) for run in runs]
    stems = [name for name, _, _ in found]
    unique = len(set(stems)) == len(stems)
    named = {name if unique else str(path): (path, rows) for name, path, rows in found}
    if len(named) < len(found):
        raise UserError(f"{stems[0]}: given twice; give two systems' candidates")
    return named


def _of_run(run: Run, table: Path, hits: pd.DataFrame, positive: str | None) -> pd.DataFrame:
    if run.groups is None:
        raise UserError(f"{run.folder}: its images have no patient, so their cases are unknown")
    if positive is None and len(run.classes) != 2:
        raise UserError(f"--positive: which of {', '.join(run.classes)} a lesion is must be said")
    chosen = run.classes[1] if positive is None else positive
    if chosen not in run.classes:
        raise UserError(f"--positive {chosen}: none of the classes {', '.join(run.classes)}")
    files = [posixpath.normpath(file.replace("\\", "/")) for file in hits["file"]]
    lesion = dict(zip(files, hits["lesion"], strict=True))
    if lacking := [name for name in run.ids if name not in lesion]:
        raise UserError(f"{table}: no row for {lacking[0]}, a test image of {run.name}; add it")
    return pd.DataFrame(
        {
            "case": run.groups,
            "lesion": [lesion[name] for name in run.ids],
            "score": run.probabilities[:, run.classes.index(chosen)],
        }
    )


def _read(file: Path, columns: Sequence[str], also: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV's columns as text, and those of `also` that it has; the first is never empty."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; give a CSV with {', '.join(columns)}") from error
    except (OSError, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"{file}: can't be read as CSV ({cause}); correct it") from error
    if lacking := [name for name in columns if name not in table]:
        raise UserError(
            f"{file}: no column {', '.join(lacking)}; it must have {', '.join(columns)}"
        )
    there = [*columns, *(name for name in also if name in table)]
    chosen = pd.DataFrame({name: table[name].str.strip() for name in there})
    if (empty := chosen[columns[0]] == "").any():
        line = int(empty.argmax()) + 2
        raise UserError(f"{file}: line {line} names no {columns[0]}; fill it in")
    return chosen
