"""`stagetransfer roc`: ROC curves of finished runs, with intervals and paired comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.errors import UserError

RATES = [0.01, 0.05, 0.1, 0.2, 0.4]


def roc(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, runs/ folders, outputs or sweep folders, mixed."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write. [default: roc beside runs]")
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(help="A class against the rest; repeat. [default: each; of two the second]"),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(help=f"False-positive rates to read at; repeat. [default: {RATES}]"),
    ] = None,
    partial: Annotated[
        float | None, typer.Option(help="Also the area left of this false-positive rate.")
    ] = None,
    mcclish: Annotated[
        bool, typer.Option("--mcclish", help="Partial area from 0.5, chance, to 1.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of config.yaml that a run must have; may be repeated."),
    ] = None,
    count: Annotated[int, typer.Option(min=100, help="Resamples of the bootstrap.")] = 2000,
) -> None:
    """ROC curves: areas, sensitivities, 95 % intervals, conditions in pairs; CSV, PNG, SVG."""
    rates = sorted(set(rate or RATES))
    if not all(0 <= x <= 1 for x in rates):
        raise UserError("--rate: a false-positive rate must lie between 0 and 1")
    if partial is not None and not 0 < partial < 1:
        raise UserError(f"--partial {partial:g}: must lie between 0 and 1; AUROC is always given")
    if mcclish and partial is None:
        raise UserError("--mcclish: standardises the partial area; give --partial RATE as well")

    from stagetransfer.reporting.curve_files import comparable_runs, write
    from stagetransfer.reporting.roc_section import roc_plot
    from stagetransfer.runs.roc_study import Operation, RocStudy
    from stagetransfer.runs.study import Study

    found, unfinished = comparable_runs(runs, only or ())
    study = Study(found, count)
    rocs = RocStudy(study, Operation(tuple(rates), partial, mcclish), positive)
    if not rocs.positives:
        raise UserError(
            f"class {', '.join(rocs.left_out)}: a ROC curve needs two test images of it and two "
            "of other classes; choose another --positive"
        )
    figures, curves = rocs.figures(), rocs.curves()
    pairs, words = rocs.pairs()
    out = out or found[0].folder.parent.parent / "roc"
    plots = {f"roc-r{ratio:g}": roc_plot(rocs, ratio, figures, curves) for ratio in study.ratios}
    write(out, {"figures": figures, "pairs": pairs, "curves": curves}, plots)
    for line in words:
        typer.echo(line)
    if study.few:
        few = ", ".join(study.few)
        typer.echo(f"fewer than ten groups in {few}: intervals are not to be trusted")
    for name in rocs.left_out:
        typer.echo(f"left out: {name}, for which the test set has too few images")
    for name in unfinished:
        typer.echo(f"left out: {name} is unfinished")
    typer.echo(f"written  {out / 'figures.csv'}")
