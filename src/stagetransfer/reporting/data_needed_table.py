"""How much data each condition needs to reach what the first one reaches with all of it."""

from collections.abc import Sequence

import numpy as np

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Table, data_frame
from stagetransfer.runs.study import Study
from stagetransfer.statistics import Interval
from stagetransfer.statistics.data_needed import data_needed

FIGURES = ("accuracy", "recall")
COLUMNS = "figure condition reference goal share low high seeds not_compared"
NOTE = (
    "The smallest share r of the {of} at which a condition reaches the reference's mean at the "
    "greatest r that both have, interpolated between the shares. In brackets: the range of shares "
    "at which the 95 % interval of the difference from this goal includes zero. Below this range "
    "the condition is worse, above it as good or better. Shares below the smallest and above the "
    "greatest r were not measured."
)


def data_needed_blocks(study: Study, sloped: Sequence[str]) -> list[Block]:
    """Return the table of the conditions with runs at two ratios; nothing of fewer than two."""
    if len(sloped) < 2 or study.without_spread:
        return []
    reference, rows, shown = sloped[0], [], []
    for figure in FIGURES:
        for condition in sloped[1:]:
            pair = study.match(condition, reference)
            ratios = sorted({run.ratio for run in pair.of_a})
            refusal = pair.refusal or ("" if len(ratios) > 1 else "one ratio in common")
            found, goal = Interval.undefined(), np.nan
            if not refusal:
                resamples, a = study.ratio_series(pair.seeds, pair.of_a, figure)
                _, b = study.ratio_series(pair.seeds, pair.of_b, figure)
                found = data_needed(resamples, a, b)
                goal = float(b.values[0, b.ratios == ratios[-1]].mean())
                refusal = found.why
            numbers = goal, found.estimate, found.low, found.high
            rows.append((figure, condition, reference, *numbers, len({*pair.seeds}), refusal))
            cell = f"not compared: {refusal}" if refusal else _cell(found, ratios[0], ratios[-1])
            shown.append([fmt.LABELS[figure], condition, fmt.number(goal), cell])
    of, suffix = study.share.of, fmt.share_suffix(study)
    needed = of.capitalize() if suffix else "Training data"
    columns = ["metric", "condition", f"goal of {reference}"]
    columns.append(f"share r that reaches it{fmt.dagger(study)}")
    data, notes = data_frame(COLUMNS, rows), [NOTE.format(of=of), *fmt.few_groups_note(study)]
    title = f"{needed} needed to reach {reference}"
    return [Table(f"data_needed{suffix}", title, columns, shown, notes, data, left=2)]


def _cell(found: Interval, smallest: float, greatest: float) -> str:
    def text(value: float) -> str:
        if value == 0:
            return f"< {fmt.ratio(smallest)}"
        return fmt.number(value, 2) if np.isfinite(value) else f"> {fmt.ratio(greatest)}"

    return f"{text(found.estimate)}\n[{text(found.low)}, {text(found.high)}]"
