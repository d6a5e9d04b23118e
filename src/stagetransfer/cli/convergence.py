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

    from stagetransfer.reporting.convergence_plots import plot, table, validation_auc
    from stagetransfer.reporting.curve_files import comparable_runs, write

    found, unfinished = comparable_runs(runs, only or ())
    logs = {part.name: validation_auc(part) for run in found for part in run.parts}
    if all(log.empty for log in logs.values()):
        raise UserError(f"{runs[0]}: no run's tensorboard/ holds validation/auroc; run them anew")
    curves = pd.concat([log for log in logs.values() if not log.empty], ignore_index=True)
    numbers = table(curves)
    out = out or found[0].folder.parent.parent / "convergence"
    conditions = list(dict.fromkeys(numbers["condition"]))
    figure = plot(curves, numbers, conditions)
    write(out, {"convergence": numbers, "curves": curves}, {"convergence": figure})
    for (ratio, condition), of in numbers.groupby(["ratio", "condition"], sort=False):
        few, most = of["batches"].min(), of["batches"].max()
        span = f"{few}" if few == most else f"{few} to {most}"
        typer.echo(
            f"r = {ratio:g}, {condition}: {span} mini-batches until 95 % of the final validation "
            f"AUC, {of['final_auroc'].mean():.3f}; seeds: {of['seed'].nunique()}"
        )
    for name in [name for name, log in logs.items() if log.empty]:
        typer.echo(f"left out: {name} has no validation/auroc in its tensorboard/")
    for name in unfinished:
        typer.echo(f"left out: {name} is unfinished")
    typer.echo(f"written  {out / 'convergence.csv'}")
