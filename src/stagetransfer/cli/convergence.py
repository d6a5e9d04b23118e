"""`stagetransfer convergence`: validation AUC against mini-batches, of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.errors import UserError


def convergence(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, runs/ folders, outputs or sweep folders, mixed."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write. [default: convergence beside runs]")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of config.yaml that a run must have; may be repeated."),
    ] = None,
) -> None:
    """Validation AUC by mini-batches, and how many until 95 % of its final value."""
    import pandas as pd

    from stagetransfer.reporting.convergence_plots import (
        convergence_plot,
        convergence_table,
        validation_auc,
    )
    from stagetransfer.reporting.curve_files import write_curve_files
    from stagetransfer.runs.gather import gather_runs

    found = gather_runs(runs, only=only or ())
    logs = {part.name: validation_auc(part) for run in found.runs for part in run.parts}
    if all(log.empty for log in logs.values()):
        raise UserError(
            f"{runs[0]}: no run has validation/auroc in logs/*/metrics.csv. Runs of earlier "
            "versions have no such file; run them again with force=true."
        )
    curves = pd.concat([log for log in logs.values() if not log.empty], ignore_index=True)
    table = convergence_table(curves)
    out = out or found.outputs / "convergence"
    figure = convergence_plot(curves, table, list(dict.fromkeys(table["condition"])))
    write_curve_files(out, {"convergence": table, "curves": curves}, {"convergence": figure})
    for (ratio, condition), of in table.groupby(["ratio", "condition"], sort=False):
        few, most = of["batches"].min(), of["batches"].max()
        span = f"{few}" if few == most else f"{few} to {most}"
        typer.echo(
            f"r = {ratio:g}, {condition}: {span} mini-batches until 95 % of the final validation "
            f"AUC, {of['final_auroc'].mean():.3f}; seeds: {of['seed'].nunique()}"
        )
    for name in [name for name, log in logs.items() if log.empty]:
        typer.echo(f"left out: {name} has no validation/auroc in logs/*/metrics.csv")
    for run in found.unfinished:
        typer.echo(f"left out: {run.folder.name} is unfinished")
    typer.echo(f"written  {out / 'convergence.csv'}")
