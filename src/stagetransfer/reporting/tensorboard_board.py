"""A folder for TensorBoard that compares the finished runs of a sweep, made from their files."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import summary_v2 as hparams  # type: ignore[import-untyped]
from tensorboard.summary.writer.event_file_writer import (  # type: ignore[import-untyped]
    EventFileWriter,
)

from stagetransfer.figures import figure_bytes
from stagetransfer.files import atomic_folder, default_folder
from stagetransfer.reporting.class_section import confusion_plot
from stagetransfer.reporting.figure5 import figure_5
from stagetransfer.runs.gather import write_each
from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Study

METRICS = ("accuracy", "recall", "cross_entropy")
CURVES = ("accuracy", "cross_entropy")

# The page of TensorBoard that shows Figure 5 alone, without smoothing. Runs with the same condition
# have the same colour: a name ends with the condition, or goes on with ratio, seed and hash.
PAGE = "http://localhost:6006/?smoothing=0&tagFilter=figure5&runColorGroup={}#timeseries".format(
    quote("regex:([^/]+?)(?:-r[0-9.e-]+-s[0-9]+-.*)?$", safe=":")
)


def write_board(outputs: Path, count: int = 2000) -> list[Path]:
    """Write the folder `board` beside the runs at `outputs`, replacing an earlier one.

    Return it; if there are several data sets, return the folder of each within it. Each finished
    run, or all folds of a split file together, becomes a TensorBoard run: a row in the HParams tab,
    and test metrics. Those that the earlier board holds unchanged keep their files. The TensorBoard
    run `figure5` holds Figure 5 as an image, with `count` resamples for its intervals.
    `figure5/<condition>` holds its curves as scalars, the mean over seeds at the step 100 r, and
    likewise the condition's confusion matrix, summed over seeds.
    """
    boards, _ = write_each(lambda found, folder: (found, folder), [outputs], None, "board")
    board = default_folder(boards[0][0].outputs, "board")
    with atomic_folder(board, replace=True) as part:
        for found, folder in boards:
            study, new = Study(found.runs, count), part / found.data_set
            _write_sweep(new / "figure5", study)
            for run in study.runs:
                test = {name: float(study.values([run], name)[0, 0]) for name in METRICS}
                _write_run(new / run.name, folder / run.name, run, test)
    return [folder for _, folder in boards]


def commands(board: Path) -> str:
    """Return what shows a board: the command, and the page that it opens best with."""
    return f"board  tensorboard --logdir {board}\n       {PAGE}"


def _write_sweep(folder: Path, study: Study) -> None:
    """Write what all runs share: the columns of the HParams tab, and Figure 5."""
    columns: dict[str, set[Any]] = {}
    for run in study.runs:
        for name, value in _hparams(run).items():
            columns.setdefault(name, set()).add(value)
    params = [
        hparams.HParam(name, hparams.Discrete([*map(_text, sorted(values))]))
        for name, values in columns.items()
        if name == "condition" or len(values) > 1
    ]
    metrics = [hparams.Metric(f"test/{name}", display_name=f"test {name}") for name in METRICS]
    with _writer(folder) as writer:
        _add(writer, hparams.hparams_config_pb(params, metrics))
        for name in CURVES:
            _add(writer, _image(f"figure5/plot_{name}", figure_5(study, [name])))
    for condition in study.conditions:
        with _writer(folder / condition) as writer:
            for ratio in (ratio for ratio in study.ratios if study.at(condition, ratio)):
                step = round(100 * ratio)
                for name in CURVES:
                    value = float(study.values(study.at(condition, ratio), name)[0].mean())
                    _add(writer, _scalar(f"figure5/{name}", value), step)
                matrix = confusion_plot(study, [condition], ratio)
                _add(writer, _image("confusion", matrix), step)


def _write_run(folder: Path, earlier: Path, run: Run, test: Mapping[str, float]) -> None:
    """Write a run's row and metrics, or link the file of the `earlier` board that holds them."""
    row = {name: _text(value) for name, value in _hparams(run).items()}
    content = {"hparams": row, "test": test}
    digest = "." + sha256(json.dumps(content).encode()).hexdigest()[:16]
    folder.mkdir()
    for file in filter(Path.is_file, earlier.glob(f"events.out.tfevents.*{digest}")):
        with suppress(OSError):  # a file system without hard links
            os.link(file, folder / file.name)
            return
    with _writer(folder, digest) as writer:
        _add(writer, hparams.hparams_pb(row, trial_id=run.name))
        for name, value in test.items():
            _add(writer, _scalar(f"test/{name}", value))


def _hparams(run: Run) -> dict[str, str | float]:
    """Return the row of a run in the HParams tab, without values that are unknown."""
    chosen, target = run.search_rates or {}, run.stages[-1]
    lr = target.get("learning_rate", {}).get("lr", run.config.get("recipe.optimizer.lr"))
    values = {
        "condition": run.condition,
        "ratio": run.ratio,
        "seed": run.seed,
        "source_seed": run.source_seed,
        "target": run.verdict,
        "epochs": chosen.get("epochs", run.config.get("recipe.epochs")),
        "lr": chosen.get("lr", lr),
    }
    return {name: value for name, value in values.items() if value is not None}


def _text(value: str | float) -> str:
    """Return a cell of the HParams tab, which shows the number 3 as 3.0000."""
    return format(value, "g") if isinstance(value, float) else str(value)


def _writer(folder: Path, suffix: str = "") -> closing[EventFileWriter]:
    return closing(EventFileWriter(str(folder), filename_suffix=suffix))


def _add(writer: EventFileWriter, summary: Any, step: int = 0) -> None:
    writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _scalar(tag: str, value: float) -> Any:
    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _image(tag: str, figure: Figure) -> Any:
    if figure.get_figheight() < 5:  # else the classes are too many for a card
        figure.set_size_inches(4.4, 2.9)
    png = figure_bytes(figure, ".png", dpi=72)  # a card drops rows and columns of larger images
    width, height = (72 * figure.get_size_inches()).astype(int).tolist()
    size = {"width": width, "height": height, "colorspace": 4}
    image = Summary.Image(encoded_image_string=png, **size)
    return Summary(value=[Summary.Value(tag=tag, image=image)])
