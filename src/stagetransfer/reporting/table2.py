"""Table 2 at one ratio: the conditions' figures with their spread, and their pairs."""

from __future__ import annotations

from collections.abc import Mapping

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
    ratio_said,
    signed,
    span,
)
from stagetransfer.reporting.published_results import TABLE_2
from stagetransfer.runs.study import Pair, Study
from stagetransfer.statistics import NATS, POINTS, Unit, sentence

FIGURES: Mapping[str, tuple[str, Unit]] = {
    "accuracy": ("accuracy", POINTS),
    "precision": ("precision", POINTS),
    "recall": ("recall", POINTS),
    "f1": ("F1", POINTS),
    "cross_entropy": ("cross-entropy", NATS),
    "auroc": ("AUROC", POINTS),
}


def few_note(study: Study) -> list[str]:
    """The warning below every table with intervals, if it must stand there."""
    if not study.few:
        return []
    unit = "images" if study.groups is None else "groups"
    few = ", ".join(f"{name} ({n})" for name, n in study.few.items())
    return [
        f"† Not to be trusted: with fewer than ten {unit} in {few}, the intervals do not show how "
        "patients differ; nor do those of p-values and of all that averages over these classes."
    ]


def mark(study: Study) -> str:
    """Stands at intervals that are not to be trusted."""
    return " †" if study.few else ""


def table_2(study: Study, ratio: float) -> list[Block]:
    """The figures of each condition at a ratio, beside the paper's at r = 1."""
    present = [name for name in study.conditions if study.at(name, ratio)]
    absent = [name for name in study.conditions if name not in present]
    numbers = _numbers(study, ratio, present)
    suffix = "" if ratio == study.main_ratio else f"-r{ratio_said(ratio)}"
    of = f"r = {ratio_said(ratio)}"
    units = "images as groups" if study.groups is None else counted(study.num_groups, "group")
    test_set = f"{counted(len(study.labels), 'test image')} ({units})"
    rows, spread = [], []
    for name in present:
        of_condition = numbers[numbers["condition"] == name]
        row = [name, str(len(study.at(name, ratio)))]
        paper_row = [f"{name} (paper)", DASH]
        for value in of_condition.to_dict("records"):
            said = FIGURES[value["figure"]][0]
            between = span(value["low"], value["high"])
            row.append(f"{number(value['mean'])}\n{between}")
            paper_row.append(number(value["paper"], 4))
            spread.append(
                [
                    name,
                    said,
                    str(value["seeds"]),
                    number(value["mean"]),
                    number(value["sd"]),
                    f"{number(value['min'])} to {number(value['max'])}",
                    between,
                    number(value["paper"], 4),
                ]
            )
        rows.append(row)
        if of_condition["paper"].notna().any():
            rows.append(paper_row)
    notes = [
        f"Mean over seeds, below it the 95 % interval{mark(study)}; {test_set}. Precision, "
        "recall, F1 and AUROC are macro averages over the classes, cross-entropy is in nats.",
        *([f"No finished run at {of}: {listed(absent)}."] if absent else []),
        *([_paper_note()] if numbers["paper"].notna().any() else []),
        *([_one_seed(numbers)] if (numbers["seeds"] == 1).any() else []),
        *few_note(study),
    ]
    return [
        Table(
            f"table2{suffix}",
            f"Table 2. Figures on the test set at {of}",
            ["condition", "seeds", *(said for said, _ in FIGURES.values())],
            rows,
            notes,
            data=numbers,
        ),
        Table(
            f"table2_spread{suffix}",
            f"Spread over seeds at {of}",
            ["condition", "figure", "seeds", "mean", "sd", "range", "95 % interval", "paper"],
            spread,
            [
                "sd: standard deviation over seeds (n - 1); range: least to greatest seed. Both "
                "are of the seeds alone; the interval knows of the test set too.",
                *few_note(study),
            ],
            left=2,
            data=numbers,
        ),
    ]


def pairs_blocks(study: Study, ratio: float) -> list[Block]:
    """The conditions in pairs at a ratio: in words, and as tables."""
    pairs = study.pairs(ratio, list(FIGURES))
    if not pairs:
        return [
            Text(f"No two conditions have runs at r = {ratio_said(ratio)}: nothing to compare.")
        ]
    suffix = "" if ratio == study.main_ratio else f"-r{ratio_said(ratio)}"
    rows, others, lines, tests = [], [], [], []
    for pair in pairs:
        title = f"{pair.a} - {pair.b}"
        lines.append(_in_words(study, pair))
        if not pair.seeds:
            rows.append([title, DASH, listed(pair.left_out), *[DASH] * 4])
            continue
        result = pair.metrics["accuracy"]
        rows.append(
            [
                title,
                listed(pair.seeds),
                listed(pair.left_out),
                signed(result, *POINTS[1:]),
                p_said(result.p_value),
                p_said(pair.holm.get("accuracy")),
                ", ".join(p_said(test.p_value) for test in pair.mcnemar.values()),
            ]
        )
        others.append([title, *(_cell(pair, name) for name in list(FIGURES)[1:])])
        for seed, test in pair.mcnemar.items():
            cells = (str(seed), str(test.only_a), str(test.only_b), p_said(test.p_value))
            tests.append([title, *cells])
    holm_note = (
        f"Holm's correction is over the {counted(len(pairs), 'pair')} of this table, a figure at a "
        "time."
    )
    data = _pair_numbers(pairs)
    blocks: list[Block] = [
        Text("Accuracy, a condition less one above it in the tables:"),
        Bullets(lines),
        Table(
            f"pairs{suffix}",
            f"Pairs of conditions at r = {ratio_said(ratio)}: accuracy",
            [
                *("pair", "seeds", "seeds left out", f"points{mark(study)}", "p", "p (Holm)"),
                "p (McNemar), a seed",
            ],
            rows,
            [
                "Difference of the seeds' means on the same test images, in percentage points, "
                "with its 95 % interval. Only seeds that both conditions have are compared.",
                holm_note,
                *few_note(study),
            ],
            data=data,
        ),
    ]
    if others:
        blocks += [
            Table(
                f"pairs_other_figures{suffix}",
                f"Pairs of conditions at r = {ratio_said(ratio)}: the other figures",
                ["pair", *(f"{said} ({unit.name})" for said, unit in list(FIGURES.values())[1:])],
                others,
                [f"Difference, 95 % interval, p-value by Holm. {holm_note}", *few_note(study)],
                data=data,
            ),
            Table(
                f"mcnemar{suffix}",
                f"McNemar's exact test at r = {ratio_said(ratio)}, a seed at a time",
                ["pair", "seed", "only the first right", "only the second right", "p"],
                tests,
                [
                    "A second opinion. It takes images as independent, so with several images a "
                    "patient its p is too small; not corrected for the number of tests."
                ],
            ),
        ]  # fmt: skip
    return blocks


def _numbers(study: Study, ratio: float, conditions: list[str]) -> pd.DataFrame:
    rows = []
    for condition in conditions:
        runs = study.at(condition, ratio)
        for figure in FIGURES:
            values = study.values(runs, figure)[0]
            result = study.interval(condition, ratio, figure)
            paper = TABLE_2.get(figure, {}) if ratio == 1 else {}
            rows.append(
                {
                    "condition": condition,
                    "ratio": ratio,
                    "figure": figure,
                    "mean": result.estimate,
                    "sd": values.std(ddof=1) if len(values) > 1 else float("nan"),
                    "min": values.min(),
                    "max": values.max(),
                    "low": result.low,
                    "high": result.high,
                    "seeds": len(runs),
                    "images": len(study.labels),
                    "groups": None if study.groups is None else study.num_groups,
                    "few_groups": bool(study.few),
                    "paper": paper.get(condition, float("nan")),
                }
            )
    return pd.DataFrame(rows)


def _pair_numbers(pairs: list[Pair]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "a": pair.a,
                "b": pair.b,
                "figure": figure,
                "difference": result.estimate,
                "low": result.low,
                "high": result.high,
                "p": result.p_value,
                "p_holm": pair.holm.get(figure, float("nan")),
                "seeds": " ".join(map(str, pair.seeds)),
                "seeds_left_out": " ".join(map(str, pair.left_out)),
            }
            for pair in pairs
            for figure, result in pair.metrics.items()
        ]
    )


def _in_words(study: Study, pair: Pair) -> str:
    if not pair.seeds:
        return f"{pair.a} - {pair.b}: no seed in common, not compared"
    left_out = f"; left out: {_seeds(pair.left_out)}" if pair.left_out else ""
    words = sentence(
        pair.a,
        pair.b,
        pair.metrics["accuracy"],
        p_value=pair.holm.get("accuracy"),
        few=list(study.few),
    )
    return words + left_out


def _seeds(seeds: tuple[int, ...]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {listed(seeds)}, which one of the two lacks"


def _cell(pair: Pair, figure: str) -> str:
    unit = FIGURES[figure][1]
    p_value = p_said(pair.holm.get(figure))
    return f"{signed(pair.metrics[figure], unit.factor, unit.digits)}\np {p_value}"


def _paper_note() -> str:
    return (
        "paper: Suzuki et al. 2018, Table 2 (one training, 927 images of other data; it states "
        "neither an interval nor how precision and recall are averaged)."
    )


def _one_seed(numbers: pd.DataFrame) -> str:
    names = numbers[numbers["seeds"] == 1]["condition"].unique()
    return f"One seed only: {listed(names)}. How seeds differ is unknown and not in the interval."
