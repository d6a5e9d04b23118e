"""How deep one should tune, for how much data: after Tajbakhsh et al. 2016, IEEE TMI 35(5).

At each ratio validation data choose the depth, so that the test set, which then compares it, is not
used twice; its lead over tuning everything, and over no transfer at all, is a paired difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stagetransfer.figures import STYLE
from stagetransfer.reporting import plots
from stagetransfer.reporting.blocks import (
    DASH,
    Block,
    Section,
    Table,
    Text,
    counted,
    number,
    p_said,
    ratio_said,
    signed,
    span,
)
from stagetransfer.reporting.table2 import few_note, mark
from stagetransfer.runs.study import Pair, Study
from stagetransfer.runs.tuning_depth import DEPTHS, split_depth
from stagetransfer.statistics import POINTS, holm, sentence

FIGURES: Mapping[str, str] = {"accuracy": "accuracy", "auroc": "AUROC"}


@dataclass(frozen=True)
class Choice:
    """The best depth at a ratio, and its differences from what it is compared with."""

    ratio: float
    condition: str
    against: list[Pair]


def layerwise_sections(study: Study, out: Path) -> list[Section]:
    """A section for each condition that has runs of two depths or more; often none."""
    found = Counter(base for base, deep in map(split_depth, study.conditions) if deep in DEPTHS)
    bases = [base for base, depths in found.items() if depths > 1]
    return [Section(f"How deep to tune: {base}", _blocks(study, base, out)) for base in bases]


def choose(study: Study, depths: Sequence[str], figure: str) -> tuple[list[Choice], bool]:
    """The best of the conditions `depths` at each ratio that has two or more, against the deepest
    (the second best where it is the deepest itself, or that is not there) and against every
    condition from scratch; and whether validation data chose it.

    The mean over seeds of the figure decides, on validation data where all runs record it, else
    on the test set; of equals, the deepest. Holm's correction is over all differences of a figure.
    """
    scratches = [name for name in study.conditions if len(study.chains[name]) == 1]
    of_validation = {
        run.name: (run.stages[-1].get("validation") or {}).get(figure)
        for name in depths
        for run in study.at(name)
    }
    validated = None not in of_validation.values()

    def score(name: str, ratio: float) -> float:
        runs = study.at(name, ratio)
        if validated:
            return float(np.mean([of_validation[run.name] for run in runs]))
        return study.interval(name, ratio, figure).estimate

    choices = []
    for ratio in study.ratios:
        present = [name for name in depths if study.at(name, ratio)]
        if len(present) > 1:
            best = max(present, key=lambda name: score(name, ratio))
            rest = [name for name in present if name != best]
            rival = rest[0] if rest[0] == depths[0] else max(rest, key=lambda n: score(n, ratio))
            others = [rival, *(name for name in scratches if study.at(name, ratio))]
            pairs = [study.pair(best, other, ratio, list(FIGURES)) for other in others]
            choices.append(Choice(ratio, best, [pair for pair in pairs if pair.seeds]))
    pairs = [pair for choice in choices for pair in choice.against]
    for name in FIGURES:
        defined = [pair for pair in pairs if np.isfinite(pair.metrics[name].p_value)]
        corrected = holm([pair.metrics[name].p_value for pair in defined])
        for pair, p_value in zip(defined, corrected, strict=True):
            pair.holm[name] = p_value
    return choices, validated


def answer(study: Study, base: str, choices: Sequence[Choice], figure: str) -> str:
    """How deep, for how much data, in one sentence with its intervals."""
    parts = []
    for choice in choices:
        compared = [
            sentence(
                _depth(choice.condition),
                _depth(pair.b),
                pair.metrics[figure],
                p_value=pair.holm.get(figure),
            )
            for pair in choice.against
        ]
        beside = f" ({'; '.join(compared)})" if compared else ""
        parts.append(f"{_depth(choice.condition)} at r = {ratio_said(choice.ratio)}{beside}")
    few = "; not to be trusted, since classes have fewer than ten groups" if study.few else ""
    if not parts:
        return "No ratio has finished runs of two depths: there is nothing to choose from."
    return f"Chosen by {FIGURES[figure]}, {base} is best tuned: {'; '.join(parts)}{few}."


def depth_plot(study: Study, names: Sequence[str], choices: Sequence[Choice]) -> Figure:
    """A heat map a figure: rows are depths, columns ratios; a frame marks the chosen depth."""
    chosen = {(choice.condition, choice.ratio) for choice in choices}
    height = 0.34 * len(names) + 1.1
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plots.grid(2, 2, (max(0.75 * len(study.ratios) + 1.6, 3.2), height))
        for axis, (name, said) in zip(axes, FIGURES.items(), strict=True):
            means = _means(study, names, name)
            colours = mpl.colormaps["cividis"].with_extremes(bad="#e6e6e6")
            image = axis.imshow(means, cmap=colours, aspect="auto")
            for (row, column), mean in np.ndenumerate(means):
                red, green, blue, _ = image.to_rgba(mean)
                dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
                axis.text(
                    column, row, number(mean), ha="center", va="center", fontsize=8,
                    color="white" if dark and np.isfinite(mean) else "black",
                )  # fmt: skip
                if (names[row], study.ratios[column]) in chosen:
                    corner, inner = (column - 0.5, row - 0.5), (column - 0.46, row - 0.46)
                    axis.add_patch(Rectangle(corner, 1, 1, fill=False, color="black", lw=2.5))
                    axis.add_patch(Rectangle(inner, 0.92, 0.92, fill=False, color="white", lw=1))
            axis.set_title(f"test {said}")
            axis.set_xticks(range(len(study.ratios)), [ratio_said(r) for r in study.ratios])
            axis.set_yticks(range(len(names)), [_depth(name) for name in names])
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
            figure.colorbar(image, ax=axis, aspect=25).outline.set_visible(False)
        figure.supxlabel("training-data ratio r", fontsize=9)
    return figure


def _blocks(study: Study, base: str, out: Path) -> list[Block]:
    of_base = [name for name in study.conditions if split_depth(name)[0] == base]
    names = [*of_base, *(name for name in study.conditions if len(study.chains[name]) == 1)]
    depths = [name for name in of_base if split_depth(name)[1] in DEPTHS]
    figure = _leading(study, depths)
    choices, validated = choose(study, depths, figure)
    numbers = _numbers(study, names)
    by = (
        "validation data (mean over seeds)"
        if validated
        else "the test set itself, since not all runs record validation figures, so its lead is "
        "flattered"
    )
    return [
        Text(answer(study, base, choices, figure)),
        plots.save(
            depth_plot(study, names, choices),
            f"depth-{base}",
            f"{base}: test figures by tuned layers and training-data ratio",
            f"Means over seeds. A frame marks the depth that {by} choose{'s' * (not validated)} "
            f"by {FIGURES[figure]}.",
            out,
        ),
        *(_figure_table(study, base, names, numbers, name) for name in FIGURES),
        *_choice_table(study, base, choices, by),
    ]


def _figure_table(
    study: Study, base: str, names: Sequence[str], numbers: pd.DataFrame, figure: str
) -> Table:
    cells = {
        (row["condition"], row["ratio"]): f"{number(row['mean'])}\n{span(row['low'], row['high'])}"
        for row in numbers[numbers["figure"] == figure].to_dict("records")
    }
    return Table(
        f"depth-{base}-{figure}",
        f"{base}: {FIGURES[figure]} by tuned layers",
        ["tuned layers", *(f"r = {ratio_said(ratio)}" for ratio in study.ratios)],
        [
            [_depth(name), *(cells.get((name, ratio), DASH) for ratio in study.ratios)]
            for name in names
        ],
        [
            f"Mean over seeds on the test set, below it the 95 % interval{mark(study)}. conv1-fc8 "
            "is the whole network, fc8 the last layer alone; layers below are as the stage before "
            "left them.",
            *few_note(study),
        ],
        data=numbers[numbers["figure"] == figure],
    )


def _choice_table(study: Study, base: str, choices: Sequence[Choice], by: str) -> list[Table]:
    rows, records = [], []
    for choice in choices:
        for pair in choice.against:
            cells = [ratio_said(choice.ratio), _depth(choice.condition), _depth(pair.b)]
            for name in FIGURES:
                result, p_value = pair.metrics[name], pair.holm.get(name)
                cells += [signed(result, *POINTS[1:]), p_said(result.p_value), p_said(p_value)]
                records.append(
                    {
                        "ratio": choice.ratio,
                        "chosen": choice.condition,
                        "against": pair.b,
                        "figure": name,
                        "difference": result.estimate,
                        "low": result.low,
                        "high": result.high,
                        "p": result.p_value,
                        "p_holm": float("nan") if p_value is None else p_value,
                        "seeds": " ".join(map(str, pair.seeds)),
                        "seeds_left_out": " ".join(map(str, pair.left_out)),
                    }
                )
            rows.append(cells)
    if not rows:
        return []
    heads = [
        head
        for said in FIGURES.values()
        for head in (f"{said} (points{mark(study)})", "p", "p (Holm)")
    ]
    return [
        Table(
            f"depth-{base}-chosen",
            f"{base}: the chosen depth in pairs",
            ["r", "chosen", "against", *heads],
            rows,
            [
                f"Chosen on {by}. Differences on the same test images, of the seeds that both "
                f"have, with the 95 % interval; Holm's correction over the "
                f"{counted(len(rows), 'row')}, a figure at a time.",
                *few_note(study),
            ],
            left=3,
            data=pd.DataFrame(records),
        )
    ]


def _leading(study: Study, depths: Sequence[str]) -> str:
    """The figure that decides: AUROC where it chose the runs' checkpoints too, else accuracy."""
    monitors = {run.config.get("recipe.monitor") for name in depths for run in study.at(name)}
    return "auroc" if monitors == {"auroc"} else "accuracy"


def _numbers(study: Study, names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "condition": name,
                "depth": split_depth(name)[1] or "scratch",
                "ratio": ratio,
                "figure": figure,
                "mean": result.estimate,
                "low": result.low,
                "high": result.high,
                "seeds": result.seeds,
            }
            for name in names
            for ratio in study.ratios
            if study.at(name, ratio)
            for figure in FIGURES
            for result in [study.interval(name, ratio, figure)]
        ]
    )


def _means(study: Study, names: Sequence[str], figure: str) -> np.ndarray[tuple[int, int]]:
    """(depths, ratios); NaN where there is no run."""
    return np.array(
        [
            [
                study.interval(name, ratio, figure).estimate if study.at(name, ratio) else np.nan
                for ratio in study.ratios
            ]
            for name in names
        ]
    )


def _depth(condition: str) -> str:
    """conv4-fc8; the name itself of a condition from scratch."""
    return split_depth(condition)[1] or condition
