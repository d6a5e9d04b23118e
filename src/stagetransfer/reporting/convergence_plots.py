"""Validation AUC against mini-batches, from the TensorBoard logs of finished runs.

Tajbakhsh et al. 2016, IEEE TMI 35(5), Fig. 10: on a log axis, since tuned networks take a
fraction of the batches that those from scratch do.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from stagetransfer.figures import STYLE
from stagetransfer.reporting.plots import condition_styles, grid, legend
from stagetransfer.runs.run import Run
from stagetransfer.statistics import convergence

TAG = "validation/auroc"


def validation_auc(run: Run) -> pd.DataFrame:
    """Columns condition, ratio, seed, fold (empty without folds), batches (mini-batches trained on
    till then), auroc, of the run's target stage; empty where it has no such scalars.

    The log's steps count the optimiser's from 0. Of a step written twice, before and after a kill,
    the later counts.
    """
    folder = run.folder / "tensorboard" / f"{len(run.chain)}-{run.chain[-1]}"
    found: dict[int, float] = {}
    if folder.is_dir():
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        if TAG in events.Tags()["scalars"]:
            found = {event.step + 1: event.value for event in events.Scalars(TAG)}
    place = {
        "condition": run.condition,
        "ratio": run.ratio,
        "seed": run.seed,
        "fold": "" if run.fold is None else str(run.fold),
    }
    rows = [{**place, "batches": at, "auroc": found[at]} for at in sorted(found)]
    return pd.DataFrame(rows, columns=pd.Index([*place, "batches", "auroc"]))


def table(curves: pd.DataFrame) -> pd.DataFrame:
    """A row a run: condition, ratio, seed, fold, final_auroc, target_auroc (95 % of it), batches
    (when it was first reached), all_batches (when the training's last validation was)."""
    rows = []
    for (condition, ratio, seed, fold), curve in curves.groupby(
        ["condition", "ratio", "seed", "fold"], sort=False
    ):
        found = convergence(curve["batches"], curve["auroc"])
        rows.append(
            {
                "condition": condition,
                "ratio": ratio,
                "seed": seed,
                "fold": fold,
                "final_auroc": found.final,
                "target_auroc": found.target,
                "batches": found.batches,
                "all_batches": curve["batches"].max(),
            }
        )
    return pd.DataFrame(rows)


def plot(curves: pd.DataFrame, numbers: pd.DataFrame, conditions: Sequence[str]) -> Figure:
    """A panel a ratio: seeds thin, their mean thick, a mark where each seed reached 95 %.

    curves, numbers: of `validation_auc` and `table`. The mean is drawn where all seeds have a
    value.
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
                    of_seed = by_seed[seed].dropna()
                    axis.plot(of_seed, color=look.colour, alpha=0.25, linewidth=0.8)
                mean = by_seed.dropna().mean(axis=1)
                axis.plot(mean, color=look.colour, linestyle=look.line)
                ends = numbers[(numbers["ratio"] == ratio) & (numbers["condition"] == condition)]
                reached = ends.merge(chosen, on=["condition", "ratio", "seed", "fold", "batches"])
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
