"""A sweep for TensorBoard: one glance compares conditions. Reads files of finished runs alone."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import summary_v2 as hparams  # type: ignore[import-untyped]
from tensorboard.summary.writer.event_file_writer import (  # type: ignore[import-untyped]
    EventFileWriter,
)

from stagetransfer.files import atomic_folder
from stagetransfer.reporting.plots import confusion_plot, figure_5
from stagetransfer.runs.gather import gather_runs
from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import classification_metrics

METRICS = ("accuracy", "recall", "cross_entropy")
CURVES = ("accuracy", "cross_entropy")


def write_board(outputs: Path, count: int = 2000) -> Path:
    """Writes `board` beside the runs at `outputs` anew, and returns that folder.

    A TensorBoard run for each finished run, or for all folds of a split file together: its row in
    the HParams tab, its test figures, its confusion matrix. `figure5` holds Figure 5 and the
    confusion matrices of all conditions as images, and `figure5/<condition>` the curves as
    scalars: the mean over seeds, at the step 100 r.

    Args:
        outputs: an outputs or `runs` folder, or a run's.
        count: resamples for the bands of Figure 5.

    Raises:
        UserError: no run is finished, one can't be read, or they can't be compared.
    """
    found = gather_runs([outputs])
    study = Study(found.runs, count)
    tests = {
        run.name: classification_metrics(run.labels, run.probabilities, run.classes)
        for run in study.runs
    }
    board = found.outputs / "board"
    with atomic_folder(board, replace=True) as part:
        _write_sweep(part / "figure5", study, tests)
        for run in study.runs:
            _write_run(part / run.name, run, tests[run.name])
    return board


def _write_sweep(
    folder: Path, study: Study, tests: Mapping[str, Mapping[str, float | None]]
) -> None:
    columns: dict[str, set[Any]] = {}
    for run in study.runs:
        for name, value in _knobs(run).items():
            columns.setdefault(name, set()).add(value)
    with _Writer(folder) as writer:
        writer.add(
            hparams.hparams_config_pb(
                [
                    hparams.HParam(name, hparams.Discrete(sorted(values)))
                    for name, values in columns.items()
                ],
                [hparams.Metric(f"test/{name}", display_name=f"test {name}") for name in METRICS],
            )
        )
        writer.add_figure("conditions/confusion", confusion_plot(study))
        writer.add_figure("figure5/plot", figure_5(study))
    for condition in study.conditions:
        with _Writer(folder / condition) as writer:
            for ratio in study.ratios:
                for name in CURVES:
                    values = [tests[run.name][name] for run in study.at(condition, ratio)]
                    finite = [value for value in values if value is not None]
                    if finite:
                        mean = sum(finite) / len(finite)
                        writer.add_scalar(f"figure5/{name}", mean, round(100 * ratio))


def _write_run(folder: Path, run: Run, test: Mapping[str, float | None]) -> None:
    with _Writer(folder) as writer:
        writer.add(hparams.hparams_pb(_knobs(run), trial_id=run.name))
        for name in METRICS:
            value = test[name]
            if value is not None:
                writer.add_scalar(f"test/{name}", value, 0)
        writer.add_figure("test/confusion", confusion_plot(Study([run])))


def _knobs(run: Run) -> dict[str, str | float]:
    """What tells runs apart: the columns of the HParams tab. What is unknown is left out."""
    known = {
        "condition": run.condition,
        "ratio": run.ratio,
        "seed": run.seed,
        "source_seed": run.source_seed,
        "epochs": run.config.get("recipe.epochs"),
        "lr": run.config.get("recipe.optimizer.lr"),
    }
    return {name: value for name, value in known.items() if value is not None}


class _Writer:
    """One TensorBoard run's file."""

    def __init__(self, folder: Path) -> None:
        self._file = EventFileWriter(str(folder))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, summary: Any, step: int = 0) -> None:
        """summary: of TensorBoard's protocol."""
        self._file.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """One number."""
        self.add(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

    def add_figure(self, tag: str, figure: Figure) -> None:
        """A plot as a picture."""
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=130)
        with Image.open(png) as image:
            width, height = image.size
        picture = Summary.Image(
            encoded_image_string=png.getvalue(), width=width, height=height, colorspace=4
        )
        self.add(Summary(value=[Summary.Value(tag=tag, image=picture)]))
