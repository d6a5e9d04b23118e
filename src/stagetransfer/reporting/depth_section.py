"""How deep to fine-tune at each training-data ratio, after Tajbakhsh et al. 2016, IEEE TMI 35(5).

Validation data choose the depth at each ratio, so that the test set is used only once, to compare
the chosen depth. It is compared with fine-tuning the whole network and with training from scratch.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stagetransfer.figures import STYLE
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages import plots
from stagetransfer.pages.blocks import Block, Plot, Section, Table, Text, data_frame
from stagetransfer.reporting.pair_tables import difference_cells, pair_frame, pair_sentence
from stagetransfer.runs.study import Pair, Study, correct
from stagetransfer.runs.tuning_depth import SEARCHED, split_depth
from stagetransfer.runs.verdict import not_learned

METRICS = ("accuracy", "auroc")

TEST_SET_CHOSE = (
    "on the test set itself, because not all runs record validation results, so its advantage is "
    "overestimated"
)
VALIDATION_OF_FOLDS = (
    "on validation data (mean over seeds and folds), which are test data of other folds, so its "
    "advantage may be overestimated"
)


Choices = dict[float, list[Pair]]
"""By ratio: the pairs that compare the best depth, which is `a` of each pair, with others."""


def depth_sections(study: Study) -> list[Section]:
    """Return one section for each condition with runs of at least two depths; often none."""
    found = Counter(split_depth(name)[0] for name in study.conditions if _is_depth(name))
    bases = [base for base, depths in found.items() if depths > 1]
    return [Section(f"How deep to fine-tune: {base}", _blocks(study, base)) for base in bases]


def choose(study: Study, depths: Sequence[str], metric: str) -> tuple[Choices, bool]:
    """Choose the best depth at each ratio that has at least two depths.

    The highest mean over seeds (and folds) wins, on validation data if all runs record it, else on
    the test set. Of equal depths, the deepest wins; `depths` begins with it. The best is compared
    with the deepest and with every condition from scratch. If it is the deepest itself, or the
    deepest has no runs, it is compared with the second best. Holm's correction is over all
    comparisons, also those that cannot be made, separately for each metric. The flag tells whether
    validation data chose.
    """
    scratches = [name for name in study.conditions if len(study.chains[name]) == 1]
    validation = {
        run.name: [(one.stages[-1].get("validation") or {}).get(metric) for one in run.parts]
        for name in depths
        for run in study.at(name)
    }
    validated = not any(None in values for values in validation.values())

    def score(name: str, ratio: float) -> float:
        if validated:
            return float(np.mean([validation[run.name] for run in study.at(name, ratio)]))
        return study.interval(name, ratio, metric).estimate

    choices: Choices = {}
    for ratio in study.ratios:
        present = [name for name in depths if study.at(name, ratio)]
        if len(present) > 1:
            best = max(present, key=lambda name: score(name, ratio))
            rest = [name for name in present if name != best]
            rival = rest[0] if rest[0] == depths[0] else max(rest, key=lambda n: score(n, ratio))
            others = (rival, *scratches)
            choices[ratio] = [study.pair(best, other, ratio, METRICS) for other in others]
    correct([*chain(*choices.values())], METRICS)
    return choices, validated


def summary(study: Study, base: str, choices: Choices, metric: str) -> str:
    """Return the best depth at each ratio in one sentence, with its comparisons."""
    if not choices:
        return "No ratio has finished runs of two depths, so there is nothing to choose from."
    parts = []
    for ratio, pairs in choices.items():
        best = _depth(pairs[0].a)
        named = [replace(pair, a=best, b=_depth(pair.b)) for pair in pairs]
        compared = "; ".join(pair_sentence(study, pair, metric) for pair in named)
        parts.append(f"{best} at r = {fmt.ratio(ratio)} ({compared})")
    label = fmt.LABELS[metric]
    return f"Best fine-tuned blocks of {base}, chosen by {label}: {'; '.join(parts)}."


@mpl.rc_context({**STYLE, "axes.grid": False})
def depth_plot(study: Study, data: pd.DataFrame, names: list[str], choices: Choices) -> Figure:
    """Return one heat map per metric: depths against ratios, with a frame at the chosen depth."""
    size = (max(0.75 * len(study.ratios) + 1.6, 3.2), 0.34 * len(names) + 1.1)
    figure, axes = plots.grid(2, 2, size)
    ticks = ([_depth(name) for name in names], [fmt.ratio(ratio) for ratio in study.ratios])
    colours = mpl.colormaps["cividis"].with_extremes(bad="#e6e6e6")
    for axis, metric in zip(axes, METRICS, strict=True):
        of_metric = data[data["figure"] == metric]
        table = of_metric.pivot(index="condition", columns="ratio", values="mean")
        means = table.reindex(index=names, columns=study.ratios).to_numpy()
        texts = np.vectorize(fmt.number)(means)
        image = plots.draw_heat_map(axis, means, ticks, texts, cmap=colours, aspect="auto")
        for ratio, pairs in choices.items():
            x, y = study.ratios.index(ratio), names.index(pairs[0].a)
            for inset, colour, width in ((0.0, "black", 2.5), (0.04, "white", 1.0)):
                corner, side = (x - 0.5 + inset, y - 0.5 + inset), 1 - 2 * inset
                axis.add_patch(Rectangle(corner, side, side, fill=False, color=colour, lw=width))
        axis.set_title(f"test {fmt.LABELS[metric]}")
        figure.colorbar(image, ax=axis, aspect=25).outline.set_visible(False)
    plots.label_axes(figure, "training-data ratio r")
    return figure


def _blocks(study: Study, base: str) -> list[Block]:
    of_base = [name for name in study.conditions if split_depth(name)[0] == base]
    names = [*of_base, *(name for name in study.conditions if len(study.chains[name]) == 1)]
    depths = [name for name in of_base if _is_depth(name)]
    # AUROC decides if it also chose the checkpoints of the runs.
    monitors = {run.config.get("recipe.monitor") for name in depths for run in study.at(name)}
    metric = "auroc" if monitors == {"auroc"} else "accuracy"
    choices, validated = choose(study, depths, metric)
    source = "on validation data (mean over seeds)" if validated else TEST_SET_CHOSE
    if validated and any(run.folds for name in depths for run in study.at(name)):
        source = VALIDATION_OF_FOLDS
    data = _data(study, names)
    title = f"{base}: test metrics by fine-tuned blocks and training-data ratio"
    caption = "Means over seeds. A frame marks the depth with the best "
    caption += f"{fmt.LABELS[metric]} {source}."
    best, figure = summary(study, base, choices, metric), depth_plot(study, data, names, choices)
    return [
        Text(best),
        Plot(f"depth-{base}", title, caption, figure, best),
        *(_metric_table(study, base, names, data[data["figure"] == name]) for name in METRICS),
        *_choice_table(study, base, choices, source),
    ]


def _metric_table(study: Study, base: str, names: Sequence[str], data: pd.DataFrame) -> Table:
    metric = str(data["figure"].iloc[0])
    rows = []
    for name in names:
        first = "\n".join(filter(None, (_depth(name), not_learned(study.at(name)))))
        rows.append([first, *(fmt.cell(study, name, ratio, metric) for ratio in study.ratios)])
    note = (
        f"Mean over seeds on the test set, with the 95 % interval{fmt.dagger(study)} below it. "
        "A depth is named by the first and the last block that are tuned. All blocks before these "
        "are frozen with the weights from the previous stage."
    )
    columns = ["fine-tuned blocks", *(f"r = {fmt.ratio(ratio)}" for ratio in study.ratios)]
    name, title = f"depth-{base}-{metric}", f"{base}: {fmt.LABELS[metric]} by fine-tuned blocks"
    return Table(name, title, columns, rows, [note, *fmt.few_groups_note(study)], data=data)


def _choice_table(study: Study, base: str, choices: Choices, source: str) -> list[Table]:
    flat = [(ratio, pair) for ratio, pairs in choices.items() for pair in pairs]
    if not flat:
        return []
    rows = [
        [fmt.ratio(ratio), _depth(pair.a), _depth(pair.b), *difference_cells(pair, METRICS)]
        for ratio, pair in flat
    ]
    columns = ["r", "chosen", "compared with"]
    for metric in METRICS:
        columns += [f"{fmt.LABELS[metric]} (points{fmt.dagger(study)})", "p", "p (Holm)"]
    note = (
        f"Chosen {source}. Differences on the same test images, over the seeds that both have, "
        f"with the 95 % interval. Holm's correction is over the {fmt.count(len(rows), 'row')}, "
        "separately for each metric."
    )
    name, title = f"depth-{base}-chosen", f"{base}: comparisons of the chosen depth"
    data = pair_frame(pair for _, pair in flat).rename(columns={"a": "chosen", "b": "against"})
    data.insert(0, "ratio", [ratio for ratio, _ in flat for _ in METRICS])
    notes = [note, *fmt.few_groups_note(study)]
    return [Table(name, title, columns, rows, notes, left=3, data=data)]


def _data(study: Study, names: Sequence[str]) -> pd.DataFrame:
    rows = [
        (name, depth or "scratch", ratio, metric, x.estimate, x.low, x.high, x.seeds)
        for name, (_, depth) in zip(names, map(split_depth, names), strict=True)
        for ratio in study.ratios
        if study.at(name, ratio)
        for metric in METRICS
        for x in [study.interval(name, ratio, metric)]
    ]
    return data_frame("condition depth ratio figure mean low high seeds", rows)


def _is_depth(condition: str) -> bool:
    return split_depth(condition)[1] not in (None, SEARCHED)


def _depth(condition: str) -> str:
    """Return the depth, such as layer4-fc; for a condition from scratch its name."""
    return split_depth(condition)[1] or condition
