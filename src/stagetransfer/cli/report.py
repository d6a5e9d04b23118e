"""`stagetransfer report`: tables, plots and a page that compare finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import (
    AskedConditions,
    OnlySettings,
    RunPaths,
    condition_names,
    existing,
    out_folder,
)


def report(
    runs: RunPaths,
    out: Annotated[Path | None, out_folder("report/ beside runs/")] = None,
    only: OnlySettings = None,
    conditions: AskedConditions = None,
    visualization: Annotated[
        Path | None,
        typer.Option(
            help="Include the CSV and PNG files of this folder of stagetransfer visualize.",
            callback=existing,
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option("--paper", help="Show the results of Suzuki et al. 2018 beside your own."),
    ] = False,
) -> None:
    """Write a report that compares finished runs: report.html, report.md, tables/, plots/."""
    from stagetransfer.reporting import make_report

    folder = make_report(
        runs,
        out,
        only=only or (),
        conditions=condition_names(conditions),
        visualization=visualization,
        paper=paper,
    )
    typer.echo(f"report  {folder / 'report.html'}")
