"""`stagetransfer ensemble`: the mean of the conditions' probabilities against the best of them."""

from pathlib import Path
from typing import Annotated

from stagetransfer.cli.options import (
    AskedConditions,
    OnlySettings,
    ResampleCount,
    RunPaths,
    out_folder,
    write_each_data_set,
)
from stagetransfer.errors import UserError
from stagetransfer.files import csv_text, write_text


def ensemble(
    runs: RunPaths,
    out: Annotated[Path | None, out_folder("ensemble/ beside runs/")] = None,
    only: OnlySettings = None,
    conditions: AskedConditions = None,
    count: ResampleCount = 2000,
) -> None:
    """Average the calibrated probabilities of all conditions; compare with the best condition."""
    from stagetransfer.runs.ensembles import NAME, ensemble_study
    from stagetransfer.runs.gather import Gathered
    from stagetransfer.statistics import NATS, POINTS, sentence

    def write(found: Gathered, folder: Path) -> list[str]:
        done = ensemble_study(found.runs, count)
        if not done.made:
            raise UserError(f"{runs[0]}: no ensemble can be made. {'; '.join(done.left_out)}")
        lines = list(done.left_out)
        for gain in done.gains:
            of = f"mean of {', '.join(gain.members)}; best on validation: {gain.pair.b}"
            lines.append(f"r = {gain.ratio:g}: {of}")
            for name, gap in gain.pair.metrics.items():
                unit, few = NATS if name == "cross_entropy" else POINTS, done.too_few
                pair, why = (NAME, gain.pair.b), gain.pair.refusal
                text = sentence(*pair, gap, unit=unit, few=few, refusal=why)
                lines.append(f"  {name}: {gain.both[name].estimate:.3f}; {text}")
        write_text(folder / "ensemble.csv", csv_text(done.table()))
        for run in done.made:
            write_text(folder / f"{run.name}.csv", csv_text(run.table()))
        return [*lines, f"written  {folder / 'ensemble.csv'}"]

    write_each_data_set(write, runs, out, "ensemble", only, conditions)
