"""`stagetransfer ensemble`: the mean of the conditions' probabilities against the best of them."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import (
    AskedConditions,
    OnlySettings,
    ResampleCount,
    RunPaths,
    new_folder,
    write_each_data_set,
)
from stagetransfer.errors import UserError
from stagetransfer.files import csv_text, write_text

METRICS = ("accuracy", "recall", "cross_entropy")


def ensemble(
    runs: RunPaths,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write; default: ensemble/ beside runs/.", callback=new_folder),
    ] = None,
    only: OnlySettings = None,
    conditions: AskedConditions = None,
    count: ResampleCount = 2000,
) -> None:
    """Average the calibrated probabilities of all conditions, and compare with the best of them."""
    import pandas as pd

    from stagetransfer.runs.ensembles import NAME, best_condition, calibrated, ensembles
    from stagetransfer.runs.gather import Gathered
    from stagetransfer.runs.study import Study
    from stagetransfer.runs.writer import Predictions
    from stagetransfer.statistics import NATS, POINTS, sentence

    def write(found: Gathered, folder: Path) -> list[str]:
        singles = [calibrated(run) for run in found.runs]
        made, lines = ensembles(singles)
        if not made:
            raise UserError(f"{runs[0]}: no ensemble can be made. {'; '.join(lines)}")
        study = Study([*singles, *made], count)
        rows = []
        for ratio in sorted({run.ratio for run in made}):
            best = best_condition(found.runs, ratio)
            members = [name for name in study.conditions if name != NAME and study.at(name, ratio)]
            lines.append(f"r = {ratio:g}: mean of {', '.join(members)}; best on validation: {best}")
            pair = study.pair(NAME, best, ratio, METRICS)
            for metric in METRICS:
                single, both = (study.interval(name, ratio, metric) for name in (best, NAME))
                gap = pair.metrics[metric]
                unit = NATS if metric == "cross_entropy" else POINTS
                text = sentence(NAME, best, gap, unit=unit, few=study.too_few, refusal=pair.refusal)
                lines.append(f"  {metric}: {both.estimate:.3f}; {text}")
                numbers = (gap.estimate, gap.low, gap.high, gap.p_value, gap.seeds)
                rows.append((ratio, metric, best, single.estimate, both.estimate, *numbers))
        columns = ["ratio", "figure", "best", "best_value", "ensemble_value"]
        columns += ["difference", "low", "high", "p", "seeds"]
        write_text(folder / "ensemble.csv", csv_text(pd.DataFrame(rows, columns=pd.Index(columns))))
        for run in made:
            of_run = (run.ids, run.groups, run.labels, run.probabilities, run.classes)
            write_text(folder / f"{run.name}.csv", csv_text(Predictions(*of_run).table()))
        return [*lines, f"written  {folder / 'ensemble.csv'}"]

    write_each_data_set(write, runs, out, "ensemble", only, conditions)
