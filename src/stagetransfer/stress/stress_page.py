"""The page of a stress test: who loses how much, the corruptions, and one image under all."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from stagetransfer.explain.image_grids import image_grid
from stagetransfer.figures import STYLE
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Bullets, Plot, Section, Table, Text, data_frame
from stagetransfer.pages.plots import condition_styles, grid, label, label_axes, legend
from stagetransfer.reporting.stress_section import COLUMNS, interval_table
from stagetransfer.runs.study import Study, correct
from stagetransfer.statistics import POINTS, Interval, Unit, sentence
from stagetransfer.stress.corruptions import SEVERITIES, Pixels, Scale, corrupt
from stagetransfer.stress.robustness import ALL, METRICS, SCRATCH, Robustness

METHOD = (
    "Nothing is trained: the stored network of each run classifies its own test images, corrupted "
    "before they are enlarged and normalised. The random part of a corruption depends on the image "
    "alone, so all runs classify the same images, and a higher severity is the same random draw "
    "with a larger amount. Intervals are 95 % intervals that resample patients (images, if they "
    "are unknown) and seeds; differences are paired by both. The mean corruption error is that of "
    "Hendrycks and Dietterich (2019), relative to scratch: below 1, a condition makes fewer "
    "errors. It also depends on the accuracy of a condition without corruptions; 5-0, the change "
    "of the difference from severity 0 to 5, does not."
)
Cells = dict[tuple[str, ...], dict[str, Interval]]
"""The intervals of a table, by the names of row and column."""

CAPTION = "Mean over seeds with its 95 % interval; severity 0 is the unchanged test set."


def stress_page(
    robust: Robustness, doubts: Sequence[str], name: str, image: Pixels
) -> list[Section]:
    """Return the sections of the page, with one test image (H, W, C), as it is stored, and its id.

    `doubts` are lines on what is missing or left out.
    """
    page = [
        Section(f"Robustness at r = {fmt.ratio(ratio)}", _results(robust, ratio))
        for ratio in reversed(robust.study.ratios)
    ]
    if doubts:
        page[0].blocks.insert(0, Bullets(doubts, kind="problems"))
    picture = Plot(
        "corruptions", "One test image under every corruption and severity",
        f"Test image {name}, as it is stored.", _picture(robust.scale, name, image),
        f"One row per corruption ({fmt.join(kind.name for kind in robust.scale.corruptions)}), one "
        "column per severity.",
    )  # fmt: skip
    page.append(Section("Corruptions", [_amounts(robust.scale), picture]))
    return [*page, Section("Method", [Text(METHOD)])]


def _results(robust: Robustness, at: float) -> list[Block]:
    study, whole = robust.study, robust.weights(ALL)
    shown = [name for name in study.conditions if study.at(name, at)]
    pairs = [study.match(a, b, at) for a, b in study.condition_pairs()]
    for pair in pairs:
        pair.metrics[ALL] = robust.difference(pair, whole["1-5"])
    correct(pairs, [ALL])
    sentences = [
        sentence(pair.a, pair.b, pair.metrics[ALL], p_value=pair.holm.get(ALL), few=study.too_few,
                 refusal=pair.refusal)
        + (f"; not in both conditions: seed {fmt.join(pair.left_out)}" if pair.left_out else "")
        for pair in pairs
    ]  # fmt: skip

    def of_severities(condition: str, metric: str, kind: str) -> dict[str, Interval]:
        figures = {name: of for name, of in robust.weights(kind).items() if name != "5-0"}
        return {name: robust.interval(condition, at, metric, of) for name, of in figures.items()}

    means: Cells = {
        (fmt.marked(study, condition, at), metric): of_severities(condition, metric, ALL)
        for condition in shown
        for metric in METRICS
    }
    accuracies: Cells = {
        (condition, kind.name): of_severities(condition, "accuracy", kind.name)
        for condition in shown
        for kind in robust.scale.corruptions
    }
    gaps: Cells = {
        (f"{pair.a} - {pair.b}", kind): {
            name: robust.difference(pair, of) for name, of in robust.weights(kind).items()
        }
        for pair in pairs
        for kind in robust.kinds
    }
    name, figure = f"accuracy{fmt.table_suffix(study, at)}", _figure(robust, at, accuracies)
    blocks: list[Block] = [
        Text("Accuracy, mean over all corruptions and severities:"),
        Bullets(sentences or [f"{shown[0]} is the only condition."]),
        Plot(name, "Accuracy against severity", CAPTION, figure, " ".join(sentences)),
        _table(study, at, "severities condition metric", "Mean over all corruptions", means),
    ]
    if SCRATCH in shown and len(shown) > 1:
        to_scratch = {name: study.match(name, SCRATCH, at) for name in shown if name != SCRATCH}
        errors: Cells = {
            (kind,): {name: robust.relative_error(of, kind) for name, of in to_scratch.items()}
            for kind in robust.kinds
        }
        title = "Mean corruption error relative to scratch"
        blocks.append(_table(study, at, "relative_error corruption", title, errors))
    if pairs:
        title = "Differences in accuracy, in points"
        blocks.append(_table(study, at, "differences pair corruption", title, gaps, POINTS))
    return [*blocks, _table(study, at, "accuracy condition corruption", "Accuracy", accuracies)]


def _table(
    study: Study, at: float, names: str, title: str, cells: Cells, unit: Unit | None = None
) -> Table:
    """Return a table of intervals; `names` are that of its file and those of its first columns."""
    file, *first = names.split()
    data = [
        (*key, column, of.estimate, of.low, of.high)
        for key, found in cells.items()
        for column, of in found.items()
    ]
    file, frame = file + fmt.table_suffix(study, at), data_frame([*first, *COLUMNS], data)
    return interval_table(file, title, frame, first, fmt.few_groups_note(study), unit)


@mpl.rc_context(STYLE)
def _figure(robust: Robustness, at: float, accuracies: Cells) -> Figure:
    figure, axes = grid(len(robust.scale.corruptions), 5, (2.0, 1.7))
    shown = list(dict.fromkeys(condition for condition, _ in accuracies))
    styles = condition_styles(robust.study.conditions)
    for axis, kind in zip(axes, robust.scale.corruptions, strict=True):
        for place, name in enumerate(shown):
            found = [accuracies[name, kind.name][str(severity)] for severity in SEVERITIES]
            y, low, high = np.array([(one.estimate, one.low, one.high) for one in found]).T
            x = np.array(SEVERITIES) + 0.12 * (place - (len(shown) - 1) / 2)
            style = styles[name] | {"label": label(robust.study, name, at), "markersize": 3}
            axis.errorbar(x, y, [y - low, high - y], elinewidth=0.8, **style)
        axis.set(title=kind.name, ylim=(0, 1), xticks=list(SEVERITIES))
    label_axes(figure, "severity", "accuracy")
    legend(figure, axes)
    return figure


def _amounts(scale: Scale) -> Table:
    columns = ["corruption", "amount", "unit", "source", *map(str, SEVERITIES[1:])]
    rows = [
        [kind.name, kind.meaning, kind.unit(scale), kind.source,
         *(f"{kind.amount(severity, scale):g}" for severity in SEVERITIES[1:])]
        for kind in scale.corruptions
    ]  # fmt: skip
    note = "Hounsfield units are not recorded: amounts are shares of the 8-bit range and the side."
    if scale.window:
        note = "Grey values 0 to 255 are a window of level {:g} and width {:g} HU.".format(
            *scale.window
        )
    title = "The corruptions, and the amount of each severity"
    return Table("amounts", title, columns, rows, [note], data_frame(columns, rows), left=4)


def _picture(scale: Scale, name: str, image: Pixels) -> Figure:
    shape = (*image.shape[:2], 3)
    rows = [
        [np.broadcast_to(corrupt(image, kind, one, scale, name) / 255, shape) for one in SEVERITIES]
        for kind in scale.corruptions
    ]
    names = [kind.name for kind in scale.corruptions]
    return image_grid(rows, row_names=names, column_names=[*map(str, SEVERITIES)], title="")
