"""Table 3: the slope of each metric against the ratio r, and the differences of slopes."""

from collections.abc import Mapping
from math import nan

import numpy as np

from stagetransfer.reporting import formatting as fmt
from stagetransfer.reporting.blocks import Block, Bullets, Table, Text, data_frame
from stagetransfer.reporting.published_results import TABLE_3
from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import (
    PER_RATIO,
    RatioSeries,
    Unit,
    fit_line,
    holm,
    sentence,
    slope_difference,
    slope_interval,
)

UNITS = {"accuracy": PER_RATIO, "cross_entropy": Unit("nats per unit of r", 1, 3)}
"""The metrics of Table 3, with the units of their slopes."""

SLOPE_COLUMNS = (
    "figure condition unit runs seeds ratios slope intercept low high textbook_low textbook_high "
    "textbook_p r_squared lack_of_fit_p bad_fit paper"
)
SLOPE_NOTES = (
    "A is the change from r = 0 to r = 1, per unit of r: accuracy as a fraction, cross-entropy in "
    "nats. The line is fitted by least squares to all runs. A smaller |A| means that the condition "
    "is more robust to less training data. Below A is its 95 % interval: seeds and groups are "
    "resampled and the line is fitted again. The textbook interval assumes independent runs, which "
    "does not hold here.",
    "fit: 'bad' if the line leaves more than 5 % of the variance among the means per ratio "
    "unexplained, and more than the spread of the runs explains (F test of lack of fit).",
    "paper: Suzuki et al. 2018, Table 3. Its unit is unknown: an accuracy given as a fraction "
    "cannot change by more than 1. One possible reading is per step of 20 %, in percent.",
)
DIFFERENCE_NOTE = (
    "In the units of Table 3, with the 95 % interval. Lines are fitted to the ratios and seeds "
    "that both conditions have; other runs are left out. Holm's correction is over the pairs, "
    "separately for each metric. Cross-entropy falls with more data, so its slopes are negative: "
    "a difference above zero means that the cross-entropy of the first condition falls less."
)


def table_3(study: Study) -> list[Block]:
    """Return the slopes and their differences; a line of text if no condition has two ratios."""
    sloped = [n for n in study.conditions if len({run.ratio for run in study.at(n)}) > 1]
    if not sloped:
        return [Text("No condition has finished runs at two ratios, so there is no slope to fit.")]
    slopes = [_slope(study, name, metric) for metric in UNITS for name in sloped]
    data = data_frame(SLOPE_COLUMNS, slopes)
    flat = [name for name in study.conditions if name not in sloped]
    rows = [
        [
            *(fmt.LABELS[row["figure"]], row["condition"], str(row["runs"])),
            fmt.mean(row["slope"], row["low"], row["high"]),
            fmt.interval(row["textbook_low"], row["textbook_high"]),
            *(fmt.number(row["r_squared"], 2), _fit(row), fmt.number(row["paper"], 4)),
        ]
        for row in data.to_dict("records")
    ]
    a = f"A{fmt.dagger(study)}"
    columns = ["metric", "condition", "runs", a, "textbook interval", "r²", "fit", "paper"]
    flat_note = f"No slope, since all runs have one ratio: {fmt.join(flat)}."
    notes = [*SLOPE_NOTES, *([flat_note] if flat else []), *fmt.few_groups_note(study)]
    title = "Table 3. Slope A of y = A r + b"
    table = Table("table3", title, columns, rows, notes, left=2, data=data)
    return [table, *(_differences(study, sloped) if len(sloped) > 1 else [])]


def _slope(study: Study, condition: str, metric: str) -> tuple[object, ...]:
    runs = study.at(condition)
    seeds, ratios = len({run.seed for run in runs}), [run.ratio for run in runs]
    fitted = fit_line(ratios, study.values(runs, metric)[0])
    result = slope_interval(study.resamples(seeds), _values(study, runs, metric))
    place = (metric, condition, UNITS[metric].name, len(runs), seeds, len(set(ratios)))
    textbook = (fitted.low, fitted.high, fitted.p_value)
    fit = (fitted.r_squared, fitted.lack_of_fit_p, fitted.bad_fit)
    paper = TABLE_3[metric].get(condition, nan)
    return *place, fitted.slope, fitted.intercept, result.low, result.high, *textbook, *fit, paper


def _values(study: Study, runs: list[Run], metric: str) -> RatioSeries:
    seeds = np.unique([run.seed for run in runs], return_inverse=True)[1]
    ratios = np.array([run.ratio for run in runs])
    return RatioSeries(study.values(runs, metric), ratios, seeds)


def _fit(row: Mapping[object, object]) -> str:
    if row["ratios"] == 2:
        return "two ratios only"
    return "bad" if row["bad_fit"] else "good"


def _differences(study: Study, sloped: list[str]) -> list[Block]:
    pairs = [(a, b) for a, b in study.condition_pairs() if {a, b} <= {*sloped}]
    lines, rows, records = [], [], []
    for metric, unit in UNITS.items():
        label, found = fmt.LABELS[metric], []
        for a, b in pairs:
            of_a, of_b = ({(run.ratio, run.seed): run for run in study.at(x)} for x in (a, b))
            shared = sorted(of_a.keys() & of_b.keys())
            seeds = {seed for _, seed in shared}
            if len(shared) == len(seeds):
                lines.append(f"{label}: {a} - {b}: no seed has both at two ratios, not compared")
                continue
            x, y = (_values(study, [of[key] for key in shared], metric) for of in (of_a, of_b))
            result = slope_difference(study.resamples(len(seeds)), x, y)
            found.append((a, b, result, len(of_a.keys() ^ of_b.keys())))
        corrected = holm([result.p_value for _, _, result, _ in found])
        for (a, b, result, left_out), p in zip(found, corrected, strict=True):
            text = sentence(a, b, result, unit=unit, p_value=p, few=list(study.few))
            out = f"; {fmt.count(left_out, 'run')} left out" if left_out else ""
            lines.append(f"{label}: {text}{out}")
            numbers = (result.estimate, result.low, result.high)
            cells = [fmt.difference(*numbers, unit), fmt.p_value(result.p_value), fmt.p_value(p)]
            rows.append([label, f"{a} - {b}", *cells, str(left_out) if left_out else fmt.DASH])
            records.append((metric, a, b, *numbers, result.p_value, p, left_out))
    data = data_frame("figure a b difference low high p p_holm runs_left_out", records)
    difference = f"difference of A{fmt.dagger(study)}"
    columns = ["metric", "pair", difference, "p", "p (Holm)", "runs left out"]
    notes = [DIFFERENCE_NOTE, *fmt.few_groups_note(study)]
    name, title = "slope_differences", "Differences of slopes"
    table = Table(name, title, columns, rows, notes, left=2, data=data)
    return [Bullets(lines), *([table] if rows else [])]
