"""Validation AUC against mini-batches (Tajbakhsh et al. 2016, IEEE TMI 35(5), Fig. 10).

The axis is logarithmic, because fine-tuning takes a fraction of the mini-batches that training
from scratch takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from stagetransfer.figures import STYLE
from stagetransfer.reporting.plots import condition_styles, grid, legend
from stagetransfer.runs.run import Run
from stagetransfer.runs.training_curves import validation_curve
from stagetransfer.statistics import convergence

RUN_COLUMNS = ["condition", "ratio", "seed", "fold"]


def validation_auc(run: Run) -> pd.DataFrame:
    """Return the validation AUC of a run's target stage, one row per epoch.

    The columns are condition, ratio, seed, fold ("" without folds), batches (mini-batches trained
    on until then) and auroc. The table is empty if the run did not log its AUC.
    """
    curve = validation_curve(run)
    if "auroc" not in curve:
        return pd.DataFrame(columns=pd.Index([*RUN_COLUMNS, "batches", "auroc"]))
    curve = curve[["batches", "auroc"]].dropna()
    fold = "" if run.fold is None else str(run.fold)
    return pd.DataFrame(
        {"condition": run.condition, "ratio": run.ratio, "seed": run.seed, "fold": fold, **curve}
    )


def convergence_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run, computed from its rows in `validation_auc`.

    The columns are condition, ratio, seed, fold, final_auroc, target_auroc (95 % of final_auroc),
    batches (at which target_auroc was first reached) and all_batches (at the last validation).
    """
    rows = []
    for run, curve in curves.groupby(RUN_COLUMNS, sort=False):
        found = convergence(curve["batches"], curve["auroc"])
        rows.append(
            {
                **dict(zip(RUN_COLUMNS, run, strict=True)),
                "final_auroc": found.final,
                "target_auroc": found.target,
                "batches": found.batches,
                "all_batches": curve["batches"].max(),
            }
        )
    return pd.DataFrame(rows)


def convergence_plot(
    curves: pd.DataFrame, table: pd.DataFrame, conditions: Sequence[str]
) -> Figure:
    """Return a figure with one panel per ratio.

    Thin lines are seeds and thick lines their mean, which is drawn where all seeds have a value. A
    marker shows where a seed reached 95 % of its final AUC.

    Args:
        curves: rows of `validation_auc`.
        table: the `convergence_table` of `curves`.
        conditions: the conditions in order, which decides their colours.
    """
    ratios = sorted(curves["ratio"].unique())
    with mpl.rc_context(STYLE):
        figure, axes = grid(len(ratios), 3, (4.3, 3.4))
        for axis, ratio in zip(axes, ratios, strict=True):
            for condition, look in condition_styles(conditions).items():
                chosen = curves[(curves["ratio"] == ratio) & (curves["condition"] == condition)]
                if chosen.empty:
                    continue
                by_seed = chosen.pivot(index="batches", columns=["seed", "fold"], values="auroc")
                for seed in by_seed:
                    axis.plot(by_seed[seed].dropna(), color=look.colour, alpha=0.25, linewidth=0.8)
                mean = by_seed.dropna().mean(axis=1)
                axis.plot(mean, color=look.colour, linestyle=look.line)
                reached = table.merge(chosen, on=[*RUN_COLUMNS, "batches"])
                axis.plot(reached["batches"], reached["auroc"], look.marker, color=look.colour)
                axis.plot(
                    [], [], color=look.colour, linestyle=look.line, marker=look.marker,
                    label=condition,
                )  # fmt: skip
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set(title=f"r = {ratio:g}", xlabel="mini-batches", ylabel="validation AUC")
        legend(figure, axes)
    return figure
