"""Table 3: how the figures change with the training-data ratio, and whether conditions differ."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np
import pandas as pd

from stagetransfer.reporting.blocks import (
    DASH,
    Block,
    Bullets,
    Table,
    Text,
    counted,
    listed,
    number,
    p_said,
    signed,
    span,
)
from stagetransfer.reporting.published_results import TABLE_3
from stagetransfer.reporting.table2 import few_note, mark
from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import (
    PER_RATIO,
    Interval,
    RatioSeries,
    Unit,
    fit_line,
    holm,
    sentence,
    slope_difference,
    slope_interval,
)

FIGURES: Mapping[str, tuple[str, Unit]] = {
    "accuracy": ("accuracy", PER_RATIO),
    "cross_entropy": ("cross-entropy", Unit("nats per unit of r", 1, 3)),
}


def table_3(study: Study) -> list[Block]:
    """Slopes and their differences; a line of text where no condition has two ratios."""
    sloped = [n for n in study.conditions if len({run.ratio for run in study.at(n)}) > 1]
    if not sloped:
        return [Text("No condition has finished runs at two ratios: there is no slope to fit.")]
    numbers = pd.DataFrame([_slope(study, n, f) for f in FIGURES for n in sloped])
    flat = [name for name in study.conditions if name not in sloped]
    rows = [
        [
            FIGURES[row["figure"]][0],
            row["condition"],
            str(row["runs"]),
            f"{number(row['slope'])}\n{span(row['low'], row['high'])}",
            span(row["textbook_low"], row["textbook_high"]),
            number(row["r_squared"], 2),
            _fit(row),
            number(row["paper"], 4),
        ]
        for row in numbers.to_dict("records")
    ]
    blocks: list[Block] = [
        Table(
            "table3",
            "Table 3. Slope A of y = A r + b",
            [
                *("figure", "condition", "runs", f"A{mark(study)}", "textbook interval", "r²"),
                *("fit", "paper"),
            ],
            rows,
            [
                "A is the change from r = 0 to r = 1: accuracy as a fraction, cross-entropy in "
                "nats, both per unit of r. Least squares over all runs; a smaller |A| is more "
                "robust. Below A its 95 % interval: seeds and groups resampled, the line fitted "
                "again. The textbook interval takes the runs as independent, which they are not.",
                "fit: 'bad' where the line leaves more than 5 % of the variance among the ratios' "
                "means, and more than the runs' spread explains (F test of lack of fit).",
                "paper: Suzuki et al. 2018, Table 3, whose unit is unknown: an accuracy that is a "
                "fraction can't change by more than 1. Per step of 20 %, in percent, is a reading.",
                *([f"No slope, runs at one ratio only: {listed(flat)}."] if flat else []),
                *few_note(study),
            ],
            left=2,
            data=numbers,
        )
    ]
    if len(sloped) > 1:
        blocks += _differences(study, sloped)
    return blocks


def _slope(study: Study, condition: str, figure: str) -> dict[str, object]:
    runs = study.at(condition)
    seeds = sorted({run.seed for run in runs})
    ratios = [run.ratio for run in runs]
    values = study.values(runs, figure)
    fitted = fit_line(ratios, values[0])
    result = slope_interval(study.resamples(len(seeds)), _runs(study, runs, seeds, figure))
    return {
        "figure": figure,
        "condition": condition,
        "unit": FIGURES[figure][1].name,
        "runs": len(runs),
        "seeds": len(seeds),
        "ratios": len(set(ratios)),
        "slope": fitted.slope,
        "intercept": fitted.intercept,
        "low": result.low,
        "high": result.high,
        "textbook_low": fitted.low,
        "textbook_high": fitted.high,
        "textbook_p": fitted.p_value,
        "r_squared": fitted.r_squared,
        "lack_of_fit_p": fitted.lack_of_fit_p,
        "bad_fit": fitted.bad_fit,
        "paper": TABLE_3[figure].get(condition, float("nan")),
    }


def _runs(study: Study, runs: list[Run], seeds: list[int], figure: str) -> RatioSeries:
    return RatioSeries(
        study.values(runs, figure),
        np.array([run.ratio for run in runs]),
        np.array([seeds.index(run.seed) for run in runs]),
    )


def _fit(row: Mapping[object, object]) -> str:
    if row["ratios"] == 2:
        return "two ratios only"
    return "bad" if row["bad_fit"] else "good"


def _differences(study: Study, sloped: list[str]) -> list[Block]:
    """In pairs, on the (ratio, seed) that both conditions have."""
    rows, lines, numbers = [], [], []
    for figure, (said, unit) in FIGURES.items():
        found: list[tuple[str, str, Interval, int]] = []
        for a, b in study.condition_pairs():
            if a not in sloped or b not in sloped:
                continue
            x, y, left_out = _shared(study, a, b)
            if not _has_line(x):
                lines.append(f"{said}: {a} - {b}: no seed has both at two ratios, not compared")
                continue
            seeds = sorted({run.seed for run in x})
            result = slope_difference(
                study.resamples(len(seeds)),
                _runs(study, x, seeds, figure),
                _runs(study, y, seeds, figure),
            )
            found.append((a, b, result, left_out))
        defined = [result.p_value for _, _, result, _ in found if isfinite(result.p_value)]
        corrected = iter(holm(defined))
        for a, b, result, left_out in found:
            p_value = next(corrected) if isfinite(result.p_value) else float("nan")
            words = sentence(a, b, result, unit=unit, p_value=p_value, few=list(study.few))
            out = f"; {counted(left_out, 'run')} left out" if left_out else ""
            lines.append(f"{said}: {words}{out}")
            cells = (p_said(result.p_value), p_said(p_value), str(left_out) if left_out else DASH)
            rows.append([said, f"{a} - {b}", signed(result), *cells])
            numbers.append(
                {
                    "figure": figure,
                    "a": a,
                    "b": b,
                    "difference": result.estimate,
                    "low": result.low,
                    "high": result.high,
                    "p": result.p_value,
                    "p_holm": p_value,
                    "runs_left_out": left_out,
                }
            )
    table = Table(
        "slope_differences",
        "Differences of slopes",
        ["figure", "pair", f"A - A{mark(study)}", "p", "p (Holm)", "runs left out"],
        rows,
        [
            "In the units of Table 3, with the 95 % interval; lines fitted to the ratios and "
            "seeds that both conditions have, other runs left out; Holm's correction over the "
            "pairs, a figure at a time. Falling cross-entropy has a negative slope: a "
            "difference above zero there means that the first falls less.",
            *few_note(study),
        ],
        left=2,
        data=pd.DataFrame(numbers),
    )
    return [Bullets(lines), *([table] if rows else [])]


def _shared(study: Study, a: str, b: str) -> tuple[list[Run], list[Run], int]:
    of_a, of_b = ({(run.ratio, run.seed): run for run in study.at(name)} for name in (a, b))
    shared = sorted(of_a.keys() & of_b.keys())
    left_out = len(of_a.keys() ^ of_b.keys())
    return [of_a[key] for key in shared], [of_b[key] for key in shared], left_out


def _has_line(runs: list[Run]) -> bool:
    """Whether some seed has two ratios."""
    return len({(run.ratio, run.seed) for run in runs}) > len({run.seed for run in runs})
