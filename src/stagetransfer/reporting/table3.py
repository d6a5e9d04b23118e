"""Table 3: slope and area of each metric against the ratio r, and their differences."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from math import nan

import numpy as np

from stagetransfer import statistics as stats
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Bullets, Table, Text, data_frame
from stagetransfer.reporting.data_needed_table import data_needed_blocks
from stagetransfer.reporting.pair_tables import difference_cells, pair_frame, pair_sentence
from stagetransfer.reporting.published_results import TABLE_3
from stagetransfer.runs.study import Pair, Study, correct
from stagetransfer.runs.verdict import not_learned

UNITS = {"accuracy": stats.PER_RATIO, "cross_entropy": stats.Unit("nats per unit of r", 1, 3)}
"""The metrics of Table 3, with the units of their slopes."""
AREA_UNITS = {"accuracy": stats.POINTS, "cross_entropy": stats.NATS}
HIGHEST = {"accuracy": 1.0, "cross_entropy": np.inf}

SLOPE_COLUMNS = (
    "figure condition unit runs seeds ratios slope intercept low high textbook_low textbook_high "
    "textbook_p r_squared lack_of_fit_p bad_fit paper not_fitted area area_low area_high"
)
SLOPE_NOTES = (
    "A is the change from r = 0 to r = 1, per unit of r: accuracy as a fraction, cross-entropy in "
    "nats. The line is fitted by least squares to all runs. A smaller |A| means that the condition "
    "is more robust to less training data. Below A is its 95 % interval: seeds and groups are "
    "resampled and the line is fitted again. The textbook interval assumes independent runs, which "
    "does not hold here. No line is fitted to runs that did not learn.",
    "fit: 'bad' if the line leaves more than 5 % of the variance of the means at each r "
    "unexplained, and if this is more than the variance between runs explains (F test of lack of "
    "fit).",
    "area: the area under the curve through the means at each r, divided by the range of r. It "
    "is a mean of the metric over r, with its 95 % interval.",
)
PAPER_NOTE = (
    "paper: Suzuki et al. 2018, Table 3. Its unit is unknown: an accuracy given as a fraction "
    "cannot change by more than 1. One possible reading is per step of 20 %, in percent."
)
DIFFERENCE_NOTE = (
    "In the units of Table 3, with the 95 % interval. Lines are fitted to the ratios and seeds "
    "that both conditions have; other runs are left out. Holm's correction is over all pairs, "
    "also those that are not compared, separately for each metric. Cross-entropy falls with more "
    "data, so its slopes are negative: a difference above zero means that the cross-entropy of the "
    "first condition falls less."
)
AREA_NOTE = (
    "Areas of the ratios and seeds that both conditions have, in points or nats, with the 95 % "
    "interval. Holm's correction is over all pairs, separately for each metric."
)
KINDS: Mapping[str, tuple[str, Mapping[str, stats.Unit], str]] = {
    "slope": ("A", UNITS, DIFFERENCE_NOTE),
    "area": ("area", AREA_UNITS, AREA_NOTE),
}


def table_3(study: Study) -> list[Block]:
    """Return slopes, areas and differences; a line of text if no condition has two ratios."""
    sloped = [n for n in study.conditions if len({run.ratio for run in study.at(n)}) > 1]
    if not sloped:
        return [Text("No condition has finished runs at two ratios, so there is no slope to fit.")]
    slopes = [_slope(study, name, metric) for metric in UNITS for name in sloped]
    data = data_frame(SLOPE_COLUMNS, slopes)
    rows = []
    for row in data.to_dict("records"):
        slope = fmt.mean(row["slope"], row["low"], row["high"])
        fit = "two ratios only" if row["ratios"] == 2 else "bad" if row["bad_fit"] else "good"
        if row["not_fitted"]:
            slope, fit = f"not fitted: {row['not_fitted']}", fmt.DASH
        place = [fmt.LABELS[row["figure"]], row["condition"], str(row["runs"])]
        area = fmt.mean(row["area"], row["area_low"], row["area_high"])
        textbook = fmt.interval(row["textbook_low"], row["textbook_high"])
        paper = [fmt.number(row["paper"], 4)] if study.with_paper else []
        rows.append([*place, slope, textbook, fmt.number(row["r_squared"], 2), fit, area, *paper])
    flat = [name for name in study.conditions if name not in sloped]
    a = f"A{fmt.dagger(study)}"
    columns = ["metric", "condition", "runs", a, "textbook interval", "r²", "fit", "area"]
    columns += ["paper"] if study.with_paper else []
    flat_note = f"No slope, since all runs have one ratio: {fmt.join(flat)}."
    paper_note = [PAPER_NOTE] if study.with_paper else []
    notes = [*SLOPE_NOTES, *paper_note, *([flat_note] if flat else []), *fmt.few_groups_note(study)]
    title = "Table 3. Slope A of y = A r + b"
    name = f"table3{fmt.share_suffix(study)}"
    blocks: list[Block] = [Table(name, title, columns, rows, notes, left=2, data=data)]
    if len(sloped) > 1:
        blocks += _differences(study, "slope", stats.slope_interval)
        blocks += _differences(study, "area", stats.area_interval)
    return [*blocks, *data_needed_blocks(study, sloped)]


def _slope(study: Study, condition: str, metric: str) -> tuple[object, ...]:
    """Return a row of `SLOPE_COLUMNS`; the line is fitted only if all runs learned."""
    runs = study.at(condition)
    seeds, ratios = study.seeds_of(runs), [run.ratio for run in runs]
    place = (metric, condition, UNITS[metric].name, len(runs), len(set(seeds)), len(set(ratios)))
    paper = TABLE_3[metric].get(condition, nan) if study.with_paper else nan
    if reason := not_learned(runs):
        return *place, *[nan] * 9, None, paper, reason, nan, nan, nan
    fitted = stats.fit_line(ratios, study.values(runs, metric)[0])
    series = study.ratio_series(seeds, runs, metric)
    result = stats.slope_interval(*series, highest=HIGHEST[metric])
    area = stats.area_interval(*series, highest=HIGHEST[metric])
    textbook = (fitted.low, fitted.high, fitted.p_value)
    fit = (fitted.r_squared, fitted.lack_of_fit_p, fitted.bad_fit)
    found = (fitted.slope, fitted.intercept, result.low, result.high, *textbook, *fit)
    return *place, *found, paper, "", area.estimate, area.low, area.high


def _pair(study: Study, a: str, b: str, compare: Callable[..., stats.Interval]) -> Pair:
    """Return the differences of slopes or areas of two conditions, without a correction."""
    pair = study.match(a, b)
    if not pair.refusal and len(pair.seeds) == len({*pair.seeds}):
        pair = replace(pair, refusal="no seed has both at two ratios")

    def difference(metric: str) -> stats.Interval:
        resamples, x = study.ratio_series(pair.seeds, pair.of_a, metric)
        _, y = study.ratio_series(pair.seeds, pair.of_b, metric)
        return compare(resamples, x, y, HIGHEST[metric])

    pair.compare(UNITS, difference)
    return pair


def _differences(study: Study, kind: str, compare: Callable[..., stats.Interval]) -> list[Block]:
    """Return the differences of slopes or areas, with Holm's correction over all pairs."""
    pairs = [_pair(study, a, b, compare) for a, b in study.condition_pairs()]
    correct(pairs, [*UNITS])
    of, units, note = KINDS[kind]
    lines, rows = [], []
    for (metric, unit), pair in product(units.items(), pairs):
        label, left_out = fmt.LABELS[metric], len(pair.left_out)
        out = f"; {fmt.count(left_out, 'run')} left out" if left_out and not pair.refusal else ""
        lines.append(f"{label}, {kind}: {pair_sentence(study, pair, metric, unit)}{out}")
        cells = difference_cells(pair, [metric], units)
        rows.append([label, f"{pair.a} - {pair.b}", *cells, str(left_out or fmt.DASH)])
    if study.without_spread:  # the sentences say so
        return [Bullets(lines)]
    data = pair_frame(pairs)
    data["runs_left_out"] = [len(pair.left_out) for pair in pairs for _ in UNITS]
    columns = "figure a b difference low high p p_holm runs_left_out not_compared"
    data = data.sort_values("figure", kind="stable")[columns.split()]
    difference = f"difference of {of}{fmt.dagger(study)}"
    heads = ["metric", "pair", difference, "p", "p (Holm)", "runs left out"]
    notes = [note, *fmt.few_groups_note(study)]
    name, title = f"{kind}_differences{fmt.share_suffix(study)}", f"Differences of {kind}s"
    return [Bullets(lines), Table(name, title, heads, rows, notes, left=2, data=data)]
