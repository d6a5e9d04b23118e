"""Numbers as the text that the tables, captions and sentences of a report show."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Study
from stagetransfer.runs.verdict import not_learned
from stagetransfer.statistics import NATS, POINTS, Unit

DASH = "–"  # not defined, or absent

LABELS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "cross_entropy": "cross-entropy",
    "auroc": "AUROC",
}
"""The name of each metric in a report."""

UNITS = dict.fromkeys(LABELS, POINTS) | {"cross_entropy": NATS}
"""The unit of the differences of each metric in a report."""


def number(value: float | None, digits: int = 3) -> str:
    """Return the rounded value; a dash if it is not defined; 0.000 in place of -0.000."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{round(value, digits) + 0.0:.{digits}f}"


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Return "[low, high]", or a dash if one end is not defined."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return DASH
    return f"[{number(low, digits)}, {number(high, digits)}]"


def mean(value: float, low: float, high: float, digits: int = 3) -> str:
    """Return a mean, with its interval on a second line."""
    return f"{number(value, digits)}\n{interval(low, high, digits)}"


def cell(study: Study, condition: str, at: float, metric: str = "accuracy") -> str:
    """Return the mean of a condition at a ratio, as `mean` does; a dash if it has no run there."""
    if not study.at(condition, at):
        return DASH
    x = study.interval(condition, at, metric)
    return mean(x.estimate, x.low, x.high)


def difference(value: float, low: float, high: float, unit: Unit) -> str:
    """Return a difference with its sign in this unit, with its interval on a second line."""
    if not math.isfinite(value):
        return DASH
    shown = round(value * unit.factor, unit.digits) + 0.0
    between = interval(low * unit.factor, high * unit.factor, unit.digits)
    return f"{shown:+.{unit.digits}f}\n{between}"


def described(start: str, figures: Iterable[tuple[str, str, float]]) -> str:
    """Return the text for those who cannot see a plot: "start: scratch CON 0.84, GGO 0.75; ...".

    The figures are (condition, name, value), those of a condition one after another.
    """
    parts = []
    for condition, of in groupby(figures, itemgetter(0)):
        values = join(f"{name} {number(value, 2)}".strip() for _, name, value in of)
        parts.append(f"{condition} {values}")
    return f"{start}: {'; '.join(parts)}."


def p_value(p: float | None) -> str:
    """Return a p-value with three digits; a dash if it is not defined."""
    return "< 0.001" if p is not None and p < 0.001 else number(p)


def join(items: Iterable[object]) -> str:
    """Return "a, b, c"; a dash if there is no item."""
    return ", ".join(map(str, items)) or DASH


def ratio(value: float) -> str:
    """Return a training-data ratio as in the names of runs: 0.2 or 1."""
    return format(value, "g")


def count(number: int, noun: str) -> str:
    """Return "1 run" or "2 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table_suffix(study: Study, at: float) -> str:
    """Return the end of a table's file name: empty at the study's main ratio, else "-r0.2"."""
    return "" if at == study.main_ratio else f"-r{ratio(at)}"


def share_suffix(study: Study) -> str:
    """Return the end of a table's file name: empty if r is the ratio, else "-label_noise"."""
    return f"-{study.share.setting}" if study.share.setting else ""


def dagger(study: Study) -> str:
    """Return the mark for the headings of intervals that are not reliable, else an empty text."""
    return " †" if study.few and not study.without_spread else ""


def few_groups_note(study: Study, *, whole: bool = False) -> list[str]:
    """Return the note on intervals that are not reliable, for tables short; else no line."""
    if not dagger(study):
        return []
    note = f"† Not reliable: fewer than ten {study.too_few}."
    more = " Intervals and p-values marked † may be too narrow or too small. The same holds for "
    return [note + (more + "every average over these classes.") * whole]


def marked(study: Study, condition: str, at: float | None = None) -> str:
    """Return a condition, and on a second line how many of its runs (at a ratio) did not learn."""
    return "\n".join(filter(None, (condition, not_learned(study.at(condition, at)))))


def seeds(study: Study, runs: Sequence[Run]) -> str:
    """Return the number of seeds; if source seeds vary on their own, "6 (3 × 2)"."""
    by_factor = [set(of) - {None} for of in zip(*study.seeds_of(runs), strict=True)]
    counts = " × ".join(str(len(of)) for of in by_factor)
    return f"{len(runs)} ({counts})" if all(by_factor) else str(len(runs))
