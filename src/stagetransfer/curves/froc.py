"""FROC curves of one or two systems, from their candidate tables and the list of lesions."""

from __future__ import annotations

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
from stagetransfer.report.plots import COLOURS, LINES, MARKERS, STYLE, grid, legend
from stagetransfer.statistics import (
    Curve,
    Detections,
    case_resamples,
    detections,
    difference,
    few_groups,
    froc,
    interval,
    resampled_froc,
    sentence,
)

Array = NDArray[np.float64]

LESION_COLUMNS = ("case", "lesion")
CANDIDATE_COLUMNS = (*LESION_COLUMNS, "score")


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
    files: Sequence[Path], lesions: Path, *, by_case: bool = False
) -> dict[str, Detections]:
    """Each file's system by its name, the file's stem.

    Candidate files: columns case, lesion (empty: hits none), score. lesions: columns case, lesion,
    a row a lesion, and a row with an empty lesion for each case without. by_case: all lesions of a
    case count as one. Raises UserError if a file can't be read or names what is not listed.
    """
    listed = _read(lesions, LESION_COLUMNS)
    candidates = {file: _read(file, CANDIDATE_COLUMNS) for file in files}
    stems = [file.stem for file in files]
    names = stems if len(set(stems)) == len(stems) else [str(file) for file in files]
    if len(set(names)) < len(names):
        raise UserError(f"{names[0]}: given twice; give two systems' candidates")
    known = list(zip(listed["case"], listed["lesion"], strict=True))
    systems = {}
    try:  # with no candidates first, so that an error in this file is said of it
        detections([], [], [], all_lesions=known)
    except ValueError as error:
        raise UserError(f"{lesions}: {error}; list each lesion and each case once") from error
    for name, (file, table) in zip(names, candidates.items(), strict=True):
        score = pd.to_numeric(table["score"], errors="coerce")
        try:
            found = detections(
                list(table["case"]), list(table["lesion"]), score.to_numpy(), all_lesions=known
            )
        except ValueError as error:
            raise UserError(f"{file}: {error}; correct it, or {lesions}") from error
        systems[name] = found
        if by_case:
            one = table["lesion"].where(table["lesion"] == "", "any")
            of_cases = {case: "any" if count else "" for case, count in _counts(found)}
            systems[name] = detections(
                *(list(table["case"]), list(one), score.to_numpy()),
                all_lesions=list(of_cases.items()),
            )
    return systems


def compare(systems: Mapping[str, Detections], rates: Sequence[float], count: int = 2000) -> Froc:
    """Sensitivity at `rates` false positives a case and its mean over them, with 95 % intervals
    by a bootstrap over cases that all systems share; each two systems in pairs.

    With the rates of `statistics.CPM` the mean is the competition performance metric.
    """
    first = next(iter(systems.values()))
    resamples = case_resamples(first, count=count)
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


def _read(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV's columns as text; case never empty."""
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
    chosen = pd.DataFrame({name: table[name].str.strip() for name in columns})
    if (empty := chosen["case"] == "").any():
        raise UserError(f"{file}: line {int(empty.argmax()) + 2} names no case; fill it in")
    return chosen
