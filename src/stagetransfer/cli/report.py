"""`stagetransfer report`: tables, plots and a page that compare finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import OnlySettings, RunPaths


def report(
    runs: RunPaths,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. (default: report beside runs)")
    ] = None,
    only: OnlySettings = None,
    visualization: Annotated[
        Path | None,
        typer.Option(help="Folder of stagetransfer visualize, whose CSV and PNG are included."),
    ] = None,
) -> None:
    """Compare finished runs: report.html, report.md, tables/, plots/."""
    from stagetransfer.reporting import make_report

    folder = make_report(runs, out, only=only or (), visualization=visualization)
    typer.echo(f"report  {folder / 'report.html'}")
