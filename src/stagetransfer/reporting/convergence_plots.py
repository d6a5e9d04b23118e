"""Validation AUC against mini-batches (Tajbakhsh et al. 2016, IEEE TMI 35(5), Fig. 10).

The axis is logarithmic: fine-tuning takes a fraction of the mini-batches of training from scratch.
"""

from collections.abc import Sequence
from math import nan

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from stagetransfer.figures import STYLE
from stagetransfer.pages.blocks import data_frame
from stagetransfer.pages.plots import condition_styles, grid, legend
from stagetransfer.runs.run import Run
from stagetransfer.runs.training_curves import validation_curve

SHARE = 0.95  # of the final AUC
RUN_COLUMNS = ["condition", "ratio", "seed", "source_seed", "fold", "learned"]


def validation_auc(run: Run) -> pd.DataFrame:
    """Return a run's validation AUC by mini-batches, one row per epoch; empty if not logged."""
    curve = validation_curve(run).reindex(columns=["batches", "auroc"]).dropna()
    source_seed = run.replicate.source_seed
    seeds = ["" if of is None else str(of) for of in (source_seed, run.fold)]
    place = dict(zip(RUN_COLUMNS, (*run.place, *seeds, run.learned), strict=True))
    return pd.DataFrame({**place, **curve})


def convergence_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run of `validation_auc`.

    `target_auroc` is a SHARE of the final AUC. `batches` is the number of mini-batches after which
    a validation first reached it, `all_batches` that at the last one. A run that did not learn has
    no target. AUC starts near 1/2: a low final value has its target reached at once.
    """
    rows = []
    for run, curve in curves.groupby(RUN_COLUMNS, sort=False):
        final, (*_, learned) = curve["auroc"].iloc[-1], run
        first = (curve["auroc"] >= SHARE * final).to_numpy().argmax()
        reached = (SHARE * final, curve["batches"].iloc[first]) if learned else (nan, nan)
        rows.append((*run, final, *reached, curve["batches"].max()))
    columns = [*RUN_COLUMNS, "final_auroc", "target_auroc", "batches", "all_batches"]
    return data_frame(columns, rows)


@mpl.rc_context(STYLE)
def convergence_plot(
    curves: pd.DataFrame, table: pd.DataFrame, conditions: Sequence[str]
) -> Figure:
    """Return one panel per ratio of `validation_auc`'s curves and their `convergence_table`.

    Thin lines are seeds and thick lines their mean, which is drawn where all seeds have a value. A
    marker shows where a seed reached 95 % of its final AUC. The order of `conditions` decides
    their colours.
    """
    ratios = sorted(curves["ratio"].unique())
    figure, axes = grid(len(ratios), 3, (4.3, 3.4))
    for axis, ratio in zip(axes, ratios, strict=True):
        for condition, style in condition_styles(conditions).items():
            chosen = curves[(curves["ratio"] == ratio) & (curves["condition"] == condition)]
            if chosen.empty:
                continue
            seeds = ["seed", "source_seed", "fold"]
            by_seed = chosen.pivot(index="batches", columns=seeds, values="auroc")
            colour = style["color"]
            for seed in by_seed:
                axis.plot(by_seed[seed].dropna(), color=colour, alpha=0.25, linewidth=0.8)
            mean = by_seed.dropna().mean(axis=1)
            axis.plot(mean, color=colour, linestyle=style["linestyle"])
            # A run that did not learn is drawn, but did not converge.
            reached = table[table["learned"]].merge(chosen, on=[*RUN_COLUMNS, "batches"])
            axis.plot(reached["batches"], reached["auroc"], style["marker"], color=colour)
            at = table[(table["ratio"] == ratio) & (table["condition"] == condition)]
            failed = (~at["learned"]).sum()
            mark = f" ({failed} did not learn)" if failed else ""
            axis.plot([], [], label=f"{condition}{mark}", **style)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set(title=f"r = {ratio:g}", xlabel="mini-batches", ylabel="validation AUC")
    legend(figure, axes)
    return figure
