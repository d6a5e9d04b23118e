"""Write the result of a run: validation.csv, predictions.csv, and metrics.json last."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stagetransfer.files import csv_text, read_json, write_json, write_text
from stagetransfer.names import choosing_metric
from stagetransfer.runs.predictions import Predictions
from stagetransfer.statistics import classification_metrics


def write_result(
    folder: Path,
    *,
    place: Mapping[str, Any],
    tested: Predictions,
    validated: Predictions | None,
    data: Mapping[str, Any],
    stages: Sequence[Mapping[str, Any]],
) -> None:
    """Write the result of a run; metrics.json comes last and marks the run as finished.

    `place` has condition, chain, ratio, seed and source_seed. `data` has the numbers of images and
    what else metrics.json holds between the metrics and the stages, one entry per stage.
    """
    for name, predictions in (("validation", validated), ("predictions", tested)):
        if predictions is not None:
            write_text(folder / f"{name}.csv", csv_text(predictions.table()))
    metrics = classification_metrics(tested.labels, tested.probabilities, tested.classes)
    by_class = {name: metrics.pop(name) for name in ("classes_averaged", "per_class", "confusion")}
    record = {**place, "test": metrics, **by_class, "classes": list(tested.classes)}
    record |= {**data, "stages": list(stages), "versions": versions()}
    write_json(folder / "metrics.json", record)


def untrained_stage(name: str, key: str, *, reused: bool, **more: str) -> dict[str, Any]:
    """Return the entry of a stage that was not trained here, with what else it holds."""
    none = {"epochs": 0, "seconds": 0.0, "images_per_second": 0.0}
    tensors: dict[str, list[str]] = {"carried": [], "reinitialised": [], "frozen": []}
    return {"name": name, "key": key, "reused": reused, **none, **tensors, **more}


def monitored_figure(folder: Path, monitor: str) -> float | None:
    """Return the validation figure of the last stage of a run or stored stage; None without one."""
    file = folder / "metrics.json"
    record = read_json(file if file.is_file() else folder / "stage.json")
    value = record["stages"][-1].get("validation", {}).get(choosing_metric(monitor))
    return None if value is None else float(value)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a result."""
    names = ("stagetransfer", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
