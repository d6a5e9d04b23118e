"""`stagetransfer report`: finished runs in, tables, plots and a page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, runs/ folders, outputs or sweep folders, mixed."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The report's folder; default: report/ beside runs/.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of config.yaml that a run must have; may be repeated."),
    ] = None,
    visualization: Annotated[
        Path | None, typer.Option(help="A folder whose CSV and PNG files are taken in.")
    ] = None,
) -> None:
    """Compares finished runs: report.md, report.html, tables/, plots/."""
    from stagetransfer.reporting import make_report

    folder = make_report(runs, out, only=only or (), visualization=visualization)
    typer.echo(f"report  {folder / 'report.html'}")
