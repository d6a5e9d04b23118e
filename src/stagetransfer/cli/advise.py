"""`stagetransfer advise`: which source to take for a target, and how deep to tune."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import out_folder
from stagetransfer.errors import UserError


def advise(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="The target and the model, as for train, such as domain/target=csv."),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            help="A candidate source: an outputs folder with trained stages, a file with weights, "
            "or the name of published weights. May be repeated. (default: the folder paths.outputs)"
        ),
    ] = None,
    out: Annotated[Path | None, out_folder("advise/ below paths.outputs")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time for short trainings of the best candidates, such as 20m. (default: no "
            "trainings)"
        ),
    ] = None,
    judge: Annotated[
        list[Path] | None,
        typer.Option(
            help="Compare earlier advice with finished runs. Give an outputs folder that has both; "
            "may be repeated."
        ),
    ] = None,
) -> None:
    """Rank sources for a target by probes on its training images. The test set is not read."""
    if judge:
        if overrides or sources or budget:
            raise UserError("--judge: takes no target, --sources or --budget. Leave them out")
        _judge(judge, out)
        return
    from stagetransfer.advise.write_advice import write_advice

    write_advice(overrides or [], sources or [], out, budget, typer.echo)


def _judge(folders: list[Path], out: Path | None) -> None:
    from stagetransfer.advise.judge import judgement, read_judged
    from stagetransfer.files import csv_text, write_text

    judged, lines = read_judged(folders)
    typer.echo("".join(f"not judged: {line}\n" for line in lines), nl=False)
    if not judged:
        raise UserError(f"{folders[0]}: no advice has finished runs of two of its candidates")
    table = judgement(judged)
    file = (out or folders[0] / "advise") / "judgement.csv"
    write_text(file, csv_text(table))
    typer.echo(f"{'ranked by':<26}{'targets':>8}{'tau':>7}{'points lost':>13}{'near best':>11}")
    for row in table.to_dict("records"):
        numbers = f"{row['tau']:>7.2f}{row['lost']:>13.2f}{row['near']:>11.2f}"
        typer.echo(f"{row['ranked_by']:<26}{row['targets']:>8}{numbers}")
    typer.echo(f"written  {file}")
