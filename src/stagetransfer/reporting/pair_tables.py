"""Pairwise comparisons of conditions at one ratio, on the same test images and seeds."""

from collections.abc import Iterable, Mapping
from math import nan

import pandas as pd

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Bullets, Data, Table, Text, data_frame
from stagetransfer.runs.study import Pair, Study
from stagetransfer.statistics import POINTS, Unit, sentence

PAIR_COLUMNS = "a b figure difference low high p p_holm seeds seeds_left_out not_compared"
MCNEMAR_COLUMNS = "pair seed only_the_first_right only_the_second_right p"
OTHERS = [name for name in fmt.LABELS if name != "accuracy"]

ACCURACY_NOTE = (
    "Difference of the means over seeds on the same test images, in percentage points, with its "
    "95 % interval. Only seeds that both conditions have are compared, and only if all their runs "
    "learned: a run that did not learn says nothing about its condition."
)
MCNEMAR_NOTE = (
    "McNemar's exact test of each seed assumes that images are independent, so its p is too small "
    "with several images per patient. It is not corrected for the number of tests."
)


def pair_blocks(study: Study, ratio: float) -> list[Block]:
    """Return the comparisons of all pairs of conditions at a ratio, as sentences and as tables."""
    pairs = study.pairs(ratio, list(fmt.LABELS))
    at, suffix = f"r = {fmt.ratio(ratio)}", fmt.table_suffix(study, ratio)
    if not any(study.at(pair.a, ratio) and study.at(pair.b, ratio) for pair in pairs):
        return [Text(f"No two conditions have finished runs at {at}, so none can be compared.")]
    rows, others, tests = [], [], []
    for pair in pairs:
        title = f"{pair.a} - {pair.b}"
        seeds = (fmt.join(pair.seeds), fmt.join(pair.left_out))
        mcnemar = fmt.join(fmt.p_value(test.p_value) for test in pair.mcnemar.values())
        rows.append([title, *seeds, *difference_cells(pair, ["accuracy"]), mcnemar])
        cells = difference_cells(pair, OTHERS)
        shown = cells[::3]
        if not pair.refusal:
            shown = [f"{x}\np {corrected}" for x, corrected in zip(shown, cells[2::3], strict=True)]
        others.append([title, *shown])
        for seed, test in pair.mcnemar.items():
            tests.append([title, seed, test.only_a, test.only_b, test.p_value])
    data = pair_frame(pairs)
    few = fmt.few_groups_note(study)
    holm_note = f"Holm's correction is over the {fmt.count(len(pairs), 'pair')} of this table, "
    holm_note += "also those that are not compared, separately for each metric."
    title = f"Pairs of conditions at {at}"
    columns = ["pair", "seeds", "seeds left out", f"points{fmt.dagger(study)}", "p", "p (Holm)"]
    columns.append("p (McNemar) per seed")
    notes = [ACCURACY_NOTE, holm_note, MCNEMAR_NOTE, *few]
    differences = Text("Differences in accuracy (first condition minus second):")
    sentences = Bullets([_sentence(study, pair) for pair in pairs])
    if study.without_spread:  # the sentences say so
        return [differences, sentences]
    blocks: list[Block] = [
        differences,
        sentences,
        Table(f"pairs{suffix}", f"{title}: accuracy", columns, rows, notes, data=data),
    ]
    if tests:
        labels = [f"{fmt.LABELS[name]} ({fmt.UNITS[name].name})" for name in OTHERS]
        notes = [f"Difference, 95 % interval and corrected p-value. {holm_note}", *few]
        name, title = f"pairs_other_figures{suffix}", f"{title}: the other metrics"
        blocks.append(Table(name, title, ["pair", *labels], others, notes, data=data))
        blocks.append(Data(f"mcnemar{suffix}", data_frame(MCNEMAR_COLUMNS, tests)))
    return blocks


def difference_cells(
    pair: Pair, metrics: Iterable[str], units: Mapping[str, Unit] = fmt.UNITS
) -> list[str]:
    """Return for each metric the difference with its interval, the p-value and Holm's p-value.

    Of a pair that is not compared, the first cell says why, and the others are empty.
    """
    cells = []
    for metric in metrics:
        x = pair.metrics[metric]
        cells += [fmt.difference(x.estimate, x.low, x.high, units[metric])]
        cells += [fmt.p_value(x.p_value), fmt.p_value(pair.holm.get(metric))]
    if pair.refusal:
        cells[0] = f"not compared: {pair.refusal}"
    return cells


def pair_sentence(study: Study, pair: Pair, metric: str, unit: Unit = POINTS) -> str:
    """Return the comparison in one metric as a sentence, or why there is none."""
    p_value, few = pair.holm.get(metric), study.too_few.partition(" ")[0]
    result, refusal = pair.metrics[metric], pair.refusal
    return sentence(pair.a, pair.b, result, unit=unit, p_value=p_value, few=few, refusal=refusal)


def pair_frame(pairs: Iterable[Pair]) -> pd.DataFrame:
    """Return one row per pair and metric, with `PAIR_COLUMNS`."""
    rows = []
    for pair in pairs:
        seeds = [" ".join(map(str, of)) for of in (pair.seeds, pair.left_out)]
        for metric, x in pair.metrics.items():
            numbers = (x.estimate, x.low, x.high, x.p_value, pair.holm.get(metric, nan))
            rows.append((pair.a, pair.b, metric, *numbers, *seeds, pair.refusal))
    return data_frame(PAIR_COLUMNS, rows)


def _sentence(study: Study, pair: Pair) -> str:
    text = pair_sentence(study, pair, "accuracy")
    if pair.refusal or not pair.left_out:
        return text
    seeds = f"seed{'s' * (len(pair.left_out) > 1)} {fmt.join(pair.left_out)}"
    return f"{text}; left out: {seeds}, which only one of the two conditions has"
