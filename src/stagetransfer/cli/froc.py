"""`stagetransfer froc`: lesions found against false positives a case, of one system or two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.errors import UserError


def froc(
    candidates: Annotated[
        list[Path],
        typer.Argument(help="A system each: CSV of case, lesion (empty: none), score; or a run."),
    ],
    lesions: Annotated[
        Path,
        typer.Option(help="CSV: case, lesion; all of them, and cases without with none."),
    ],
    table: Annotated[
        Path | None, typer.Option(help="CSV: file, lesion; what the test images of runs hit.")
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(help="The class of lesions, for runs. [default: of two the second]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write. [default: froc beside the first CSV, or beside runs]"),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(help="False positives a case to read at; repeat. [default: 1/8 ... 8]"),
    ] = None,
    by_case: Annotated[
        bool, typer.Option("--by-case", help="A case's lesions count as one.")
    ] = False,
    count: Annotated[int, typer.Option(min=100, help="Resamples of the bootstrap.")] = 2000,
) -> None:
    """FROC curves: sensitivities, 95 % intervals, systems in pairs; CSV, PNG, SVG."""
    if rate and min(rate) <= 0:
        raise UserError("--rate: a mean number of false positives a case must be above 0")

    from stagetransfer.reporting.curve_files import write
    from stagetransfer.reporting.froc_plot import froc_plot
    from stagetransfer.runs.froc_study import compare_systems, read_systems
    from stagetransfer.runs.reader import find_runs
    from stagetransfer.statistics import CPM

    systems = read_systems(candidates, lesions, table=table, positive=positive, by_case=by_case)
    result = compare_systems(systems, sorted(set(rate or CPM)), count)
    first = candidates[0]
    beside = find_runs([first])[0].parent if first.is_dir() else first
    out = out or beside.parent / "froc"
    tables = {"figures": result.figures, "pairs": result.pairs, "curves": result.curves}
    write(out, tables, {"froc": froc_plot(result, by_case=by_case)})
    for line in [*result.sentences, *result.notes]:
        typer.echo(line)
    typer.echo(f"written  {out / 'figures.csv'}")
