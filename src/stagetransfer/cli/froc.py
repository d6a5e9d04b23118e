"""`stagetransfer froc`: lesions found against false positives per case, of one system or two."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import ResampleCount, existing, out_folder
from stagetransfer.errors import UserError
from stagetransfer.files import default_folder


def froc(
    candidates: Annotated[
        list[Path],
        typer.Argument(
            help="The systems to compare. Each is a finished run, or a CSV of candidates with the "
            "columns case, lesion (empty if it hits none) and score."
        ),
    ],
    lesions: Annotated[
        Path,
        typer.Option(
            help="CSV with the columns case and lesion: one row per lesion, and one row with an "
            "empty lesion for each case without lesions."
        ),
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns file and lesion: the lesion that a test image hits.",
            callback=existing,
        ),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(help="The class of lesions, for runs. Default: the second of two classes."),
    ] = None,
    out: Annotated[Path | None, out_folder("froc/ beside the first CSV, or beside runs/")] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Report the sensitivity at this number of false positives per case. May be "
            "repeated. Default: 1/8, 1/4, 1/2, 1, 2, 4 and 8."
        ),
    ] = None,
    by_case: Annotated[
        bool, typer.Option("--by-case", help="Count all lesions of a case as one.")
    ] = False,
    count: ResampleCount = 2000,
) -> None:
    """Write FROC sensitivities with 95 % intervals, comparisons and curves: CSV, PNG, SVG."""
    if not all(0 < x < 1e9 for x in rate or ()):
        wrong = "--rate: a number of false positives per case must be above 0, and finite"
        raise UserError(f"{wrong}. Correct the value.")
    if not any(path.is_dir() for path in candidates):
        for name, value in (("table", table), ("positive", positive)):
            if value is not None:
                raise UserError(f"--{name}: it is for runs, and all systems are CSV. Leave it out.")

    from stagetransfer.pages.plots import write_curve_files
    from stagetransfer.reporting.roc_plots import froc_plot
    from stagetransfer.runs.froc_study import compare_systems, read_systems
    from stagetransfer.runs.reader import find_runs
    from stagetransfer.statistics import CPM

    systems, read = read_systems(
        candidates, lesions, table=table, positive=positive, by_case=by_case
    )
    rates = sorted(set(rate or CPM))
    tables, lines = compare_systems(systems, rates, count, read)
    first = candidates[0]
    beside = find_runs([first])[0].parent if first.is_dir() else first
    out = out or default_folder(beside.parent, "froc")
    plot = froc_plot(tables["figures"], tables["curves"], rates, by_case=by_case)
    write_curve_files(out, tables, {"froc": plot})
    typer.echo("\n".join([*lines, f"written  {out / 'figures.csv'}"]))
