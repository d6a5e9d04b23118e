"""`stagetransfer convergence`: validation AUC against mini-batches, of finished runs."""

from pathlib import Path
from typing import Annotated

from stagetransfer.cli.options import OnlySettings, RunPaths, out_folder, write_each_data_set
from stagetransfer.errors import UserError


def convergence(
    runs: RunPaths,
    out: Annotated[Path | None, out_folder("convergence/ beside runs/")] = None,
    only: OnlySettings = None,
) -> None:
    """Write validation AUC against mini-batches, and when it reaches 95 % of its final value."""
    import pandas as pd

    from stagetransfer.pages.plots import write_curve_files
    from stagetransfer.reporting import convergence_plots as plots
    from stagetransfer.runs.gather import Gathered
    from stagetransfer.runs.verdict import not_learned

    def write(found: Gathered, folder: Path) -> list[str]:
        of_runs = {
            part.name: plots.validation_auc(part) for run in found.runs for part in run.parts
        }
        if not (present := [curve for curve in of_runs.values() if not curve.empty]):
            raise UserError(
                f"{runs[0]}: no run has validation/auroc in logs/*/metrics.csv. Runs of earlier "
                "versions have no such file; run them again with force=true."
            )
        curves = pd.concat(present, ignore_index=True)
        table = plots.convergence_table(curves)
        figure = plots.convergence_plot(curves, table, list(table["condition"].unique()))
        lines = []
        write_curve_files(folder, {"convergence": table, "curves": curves}, {"convergence": figure})
        for (ratio, condition), rows in table.groupby(["ratio", "condition"], sort=False):
            of = [run for run in found.runs if (run.ratio, run.condition) == (ratio, condition)]
            if refusal := not_learned([part for run in of for part in run.parts]):
                lines.append(f"r = {ratio:g}, {condition}: no number of mini-batches: {refusal}")
                continue
            ends = sorted({int(rows["batches"].min()), int(rows["batches"].max())})
            span = " to ".join(map(str, ends))
            lines.append(
                f"r = {ratio:g}, {condition}: {span} mini-batches until 95 % of the final "
                f"validation AUC, {rows['final_auroc'].mean():.3f}; seeds: {rows['seed'].nunique()}"
            )
        without = [name for name, curve in of_runs.items() if curve.empty]
        lines += [
            f"left out: {name} has no validation/auroc in logs/*/metrics.csv" for name in without
        ]
        lines += [f"left out: {run.folder.name} is unfinished" for run in found.unfinished]
        return [*lines, f"written  {folder / 'convergence.csv'}"]

    write_each_data_set(write, runs, out, "convergence", only)
