"""`stagetransfer roc`: ROC curves of finished runs, with intervals and paired comparisons."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import (
    AskedConditions,
    OnlySettings,
    ResampleCount,
    RunPaths,
    out_folder,
    write_each_data_set,
)
from stagetransfer.errors import UserError

RATES = [0.01, 0.05, 0.1, 0.2, 0.4]


def roc(
    runs: RunPaths,
    out: Annotated[Path | None, out_folder("roc/ beside runs/")] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(
            help="A class to compare with the rest. May be repeated. "
            "Default: every class, or the second of two."
        ),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Report the sensitivity at this false-positive rate. May be repeated. "
            f"Default: {', '.join(map(str, RATES))}."
        ),
    ] = None,
    partial: Annotated[
        float | None,
        typer.Option(help="Also report the partial area up to this false-positive rate."),
    ] = None,
    mcclish: Annotated[
        bool,
        typer.Option("--mcclish", help="Rescale the partial area: 0.5 is chance, 1 is perfect."),
    ] = False,
    only: OnlySettings = None,
    conditions: AskedConditions = None,
    count: ResampleCount = 2000,
) -> None:
    """Write ROC areas, sensitivities and their comparisons with 95 % intervals: CSV, PNG, SVG."""
    rates = sorted(set(rate or RATES))
    if not all(0 <= x <= 1 for x in rates):
        raise UserError("--rate: a false-positive rate must be between 0 and 1. Correct the value.")
    if partial is not None and not 0 < partial < 1:
        raise UserError(
            f"--partial {partial:g}: must be greater than 0 and less than 1. Correct the value; "
            "the whole area is always given."
        )
    if mcclish and partial is None:
        raise UserError("--mcclish: there is no partial area to rescale. Add --partial RATE.")

    from stagetransfer.pages.plots import write_curve_files
    from stagetransfer.reporting.roc_plots import roc_plot
    from stagetransfer.runs.gather import Gathered
    from stagetransfer.runs.roc_study import RocMetrics, RocStudy
    from stagetransfer.runs.study import Study

    def write(found: Gathered, folder: Path) -> list[str]:
        study = Study(found.runs, count, found.conditions)
        rocs = RocStudy(study, RocMetrics(tuple(rates), partial, mcclish), positive)
        if not rocs.positives:
            raise UserError(
                f"class {', '.join(rocs.left_out)}: a ROC curve needs two test images of the class "
                "and two of other classes. Choose another --positive."
            )
        metrics, curves = rocs.metrics_table(), rocs.curves()
        pairs, lines, refusals = rocs.pairs()
        plots = {f"roc-r{r:g}": roc_plot(rocs, r, metrics, curves) for r in study.ratios}
        write_curve_files(folder, {"figures": metrics, "pairs": pairs, "curves": curves}, plots)
        lines += refusals
        if study.few:
            lines.append(f"fewer than ten {study.too_few}: intervals are not reliable")
        too_few = "because the test set has too few images of it or its rest"
        lines += [f"left out: {name}, {too_few}" for name in rocs.left_out]
        lines += [f"left out: {run.folder.name} is unfinished" for run in found.unfinished]
        return [*lines, f"written  {folder / 'figures.csv'}"]

    write_each_data_set(write, runs, out, "roc", only, conditions)
