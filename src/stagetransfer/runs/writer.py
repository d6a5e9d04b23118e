"""Write the result of a run: validation.csv, predictions.csv, and metrics.json last."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.files import read_json, write_json, write_text
from stagetransfer.statistics import classification_metrics


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network for N images of C classes.

    Attributes:
        ids: N unique names.
        groups: N patients, samples or videos, or None where none are known.
        labels: (N,), in [0, C).
        probabilities: (N, C); each row sums to 1.
        classes: the C class names.
    """

    ids: Sequence[str]
    groups: Sequence[str] | None
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: Sequence[str]

    def table(self) -> pd.DataFrame:
        """Return one row per image: id, group, label, prediction, and p_<class> of each class."""
        columns = {
            "id": list(self.ids),
            "group": list(self.groups) if self.groups is not None else [""] * len(self.ids),
            "label": [self.classes[i] for i in self.labels],
            "prediction": [self.classes[i] for i in self.probabilities.argmax(1)],
            **{f"p_{name}": self.probabilities[:, i] for i, name in enumerate(self.classes)},
        }
        return pd.DataFrame(columns)


def write_result(
    folder: Path,
    *,
    place: Mapping[str, Any],
    tested: Predictions,
    validated: Predictions,
    data: Mapping[str, Any],
    stages: Sequence[Mapping[str, Any]],
) -> None:
    """Write the result of a run; metrics.json comes last and marks the run as finished.

    Args:
        place: condition, chain, ratio, seed and source_seed.
        tested: the predictions for the test images.
        validated: the predictions for the validation images.
        data: numbers of images, and what else metrics.json holds between the metrics and the
            stages.
        stages: one entry per stage of the chain.
    """
    for name, predictions in (("validation", validated), ("predictions", tested)):
        write_text(folder / f"{name}.csv", predictions.table().to_csv(index=False))
    metrics = classification_metrics(tested.labels, tested.probabilities, tested.classes)
    per_class, confusion = metrics.pop("per_class"), metrics.pop("confusion")
    write_json(
        folder / "metrics.json",
        {
            **place,
            "test": metrics,
            "per_class": per_class,
            "confusion": confusion,
            "classes": list(tested.classes),
            **data,
            "stages": list(stages),
            "versions": versions(),
        },
    )


def monitored_figure(folder: Path, monitor: str) -> float | None:
    """Return the validation figure of a finished run's target stage; None if it has none."""
    stage = read_json(folder / "metrics.json")["stages"][-1]
    value = stage.get("validation", {}).get(monitor)
    return None if value is None else float(value)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a result."""
    names = ("stagetransfer", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
