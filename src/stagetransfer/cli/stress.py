"""`stagetransfer stress`: finished runs on corruptions of their own test images."""

import time
from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import (
    AskedConditions,
    Device,
    OnlySettings,
    ResampleCount,
    RunPaths,
    available_device,
    out_folder,
    write_each_data_set,
)


def stress(
    runs: RunPaths,
    out: Annotated[Path | None, out_folder("stress/ beside runs/")] = None,
    only: OnlySettings = None,
    conditions: AskedConditions = None,
    count: ResampleCount = 2000,
    device: Device = "auto",
) -> None:
    """Test finished runs, without training, on corrupted images of their own test set."""
    import numpy as np

    from stagetransfer.explain.compared_runs import ComparedRuns
    from stagetransfer.files import csv_text
    from stagetransfer.pages.render import replace_report
    from stagetransfer.pipeline.restore import restore_runs
    from stagetransfer.runs.gather import Gathered
    from stagetransfer.runs.run import trained_runs
    from stagetransfer.runs.study import Study
    from stagetransfer.stress.corrupted_tests import scale_of, stored_image, tested
    from stagetransfer.stress.robustness import SCRATCH, Robustness
    from stagetransfer.stress.stress_page import stress_page
    from stagetransfer.training.machine import keep_freed_memory

    keep_freed_memory()
    chosen = available_device(device)

    def write(found: Gathered, folder: Path) -> list[str]:
        opened = restore_runs([part.folder for part in trained_runs(found.runs)])
        compared = ComparedRuns(tuple(opened))
        restored = {run.folder: (run, compared.data(run)) for run in opened}
        data = compared.data(opened[0])
        scale = scale_of(data)
        doubts = [f"left out: {run.folder.name}: {run.reason}" for run in found.unfinished]
        if SCRATCH not in {run.condition for run in found.runs}:
            doubts.append("There is no run from scratch, so there is no error relative to scratch.")
        probabilities = {}
        for run in found.runs:
            begin = time.monotonic()
            probabilities[run.name] = p = tested(run, restored, scale, chosen)
            if moved := int((p[0].argmax(1) != run.probabilities.argmax(1)).sum()):
                doubts.append(
                    f"{run.name}: {moved} of {len(run.ids)} images without a corruption are "
                    "classified differently than in predictions.csv. The reason may be another "
                    "machine or test_copies."
                )
            typer.echo(f"tested   {run.name} in {time.monotonic() - begin:.1f} s")
        robust = Robustness(Study(found.runs, count, found.conditions), probabilities, scale)
        position = int(np.random.default_rng(0).integers(data.count("test")))  # a random image
        page = stress_page(robust, doubts, *stored_image(data, position))
        table = {"stress.csv": csv_text(robust.table())}
        replace_report("StageTransfer stress test", page, folder, table)
        return [*(f"note: {line}" for line in doubts), f"written  {folder / 'report.html'}"]

    write_each_data_set(write, runs, out, "stress", only, conditions)
