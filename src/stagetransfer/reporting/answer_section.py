"""The first section of a report: the question, its answer, and what would settle it."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Bullets, Plot, Section, Table, Text, data_frame
from stagetransfer.reporting import figure5
from stagetransfer.reporting.limits import grave_limits
from stagetransfer.runs.study import Pair, Study
from stagetransfer.statistics import POINTS, plan

PLAN_NOTE = (
    "For a power of 80 % at a level of 5 %, before Holm's correction, from the variances between "
    "these seeds and patients. These numbers are a plan for more runs, not a result: the true "
    "difference may be far from the measured one."
)


def answer_section(study: Study, health: Sequence[Block]) -> Section:
    """Return the question, the answer, what limits it, Figure 5, and tables, also of the health."""
    first, *others = study.asked
    pairs = {
        ratio: [pair for pair in study.pairs(ratio, ["accuracy"]) if pair.b == first]
        for ratio in study.ratios
    }
    asked = f"Does {_list(others, 'or')} reach a higher test accuracy than {first}?"
    question = asked if others else f"Which test accuracy does {first} reach?"
    ends = dict.fromkeys([study.main_ratio, study.ratios[0]])
    answer = " ".join(_sentence(study, ratio, pairs[ratio]) for ratio in ends)
    blocks: list[Block] = [Text(question, kind="question"), Text(answer, kind="answer")]
    if limits := [*fmt.few_groups_note(study, whole=True), *grave_limits(study)]:
        blocks.append(Bullets(limits, kind="problems"))
    figure, alt = figure5.figure_5(study), f"{figure5.TITLE}. {answer}"
    blocks.append(Plot("figure5", figure5.TITLE, figure5.CAPTION, figure, alt))
    blocks += [accuracy_table(study), *health]
    open_pairs = [x for x in pairs[study.main_ratio] if x.holm.get("accuracy", 0) > 0.05]
    have = study.num_groups, "test images" if study.groups is None else "test patients"
    if plans := [plan(f"{x.a} - {x.b}", x.metrics["accuracy"], *have) for x in open_pairs]:
        blocks += [Text("What would settle the open comparisons:"), Bullets(plans)]
        blocks.append(Text(PLAN_NOTE, kind="note"))
    return Section("Answer", blocks)


def _sentence(study: Study, ratio: float, pairs: Sequence[Pair]) -> str:
    """Return the comparisons with the first condition at a ratio, as one sentence."""
    run = next(run for run in study.runs if run.ratio == ratio)
    amount = f"{run.num_train:,} training images (r = {fmt.ratio(ratio)})"
    start = f"With {'all ' * (ratio == 1)}{amount}"
    if ratio == study.main_ratio:
        start += f" and {fmt.count(len(study.labels), 'test image')}"
        if study.groups is not None:
            start += f" of {fmt.count(study.num_groups, 'patient')}"
    if not pairs:
        cell = fmt.cell(study, study.conditions[0], ratio).replace("\n", ", 95 % CI ")
        return f"{start}, {study.conditions[0]} reached {cell}."
    clauses: dict[str, list[str]] = {}
    for pair in pairs:
        x, shown = pair.metrics["accuracy"], pair.a
        if not pair.refusal:
            figures = fmt.difference(x.estimate, x.low, x.high, POINTS)
            figures = figures.replace("\n", " points, 95 % CI ")
            p = fmt.p_value(pair.holm.get("accuracy"))
            shown += f" ({figures}, Holm's p {p}, {fmt.count(len(pair.seeds), 'seed')})"
        clauses.setdefault(_verdict(study, pair), []).append(shown)
    return f"{start}, {'; '.join(f'{_list(names)} {verb}' for verb, names in clauses.items())}."


def _verdict(study: Study, pair: Pair) -> str:
    result = pair.metrics["accuracy"]
    if pair.refusal:
        return f"was not compared with {pair.b} ({pair.refusal})"
    if study.too_few:
        unit = "images" if study.groups is None else "patients"
        why = f"because a class has too few test {unit}"
        return f"could not be compared reliably with {pair.b}, {why}"
    if not np.isfinite(result.low):
        return f"was compared with {pair.b} without an interval ({result.why})"
    if pair.holm["accuracy"] > 0.05:
        return f"did not differ detectably from {pair.b}"
    return f"reached a {'higher' if result.estimate > 0 else 'lower'} test accuracy than {pair.b}"


def accuracy_table(study: Study) -> Table:
    """Return the accuracy of each condition at each ratio."""
    rows = [
        [fmt.marked(study, name), *(fmt.cell(study, name, ratio) for ratio in study.ratios)]
        for name in study.conditions
    ]
    columns = ["condition", *(f"r = {fmt.ratio(r)}{fmt.dagger(study)}" for r in study.ratios)]
    found = [
        (name, ratio, x.estimate, x.low, x.high, len(study.at(name, ratio)))
        for name, ratio in product(study.conditions, study.ratios)
        if study.at(name, ratio)
        for x in [study.interval(name, ratio, "accuracy")]
    ]
    data = data_frame("condition ratio accuracy low high seeds", found)
    notes = ["Mean over seeds, with its 95 % interval."]
    if not study.share.setting and not study.without_spread:
        notes[0] += " The p-values above have Holm's correction."
    name, r = f"answer{fmt.share_suffix(study)}", "share" if study.share.setting else "ratio"
    return Table(name, f"Test accuracy by condition and {r} r", columns, rows, notes, data)


def _list(names: Sequence[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
