"""What is written down of a run: an entry a stage, the predictions, and metrics.json last."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagetransfer.data import DomainDataModule
from stagetransfer.records import write_atomically, write_json
from stagetransfer.settings import RunConfig
from stagetransfer.statistics import figures
from stagetransfer.training import Fitted, Tested


def trained_entry(name: str, key: str, data: DomainDataModule, fitted: Fitted) -> dict[str, Any]:
    """A trained stage's entry in `stages` of metrics.json and stage.json."""
    return {
        "name": name,
        "key": key,
        "reused": False,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "seconds": fitted.seconds,
        "images_per_second": fitted.images_per_second,
        **asdict(fitted.transfer),
        "validation": fitted.validation,
        "num_train": data.count("train"),
        "num_validation": data.count("validation"),
        "fingerprint": data.fingerprint,
    }


def weights_entry(name: str, key: str, weights: str) -> dict[str, Any]:
    """The entry of a stage that given weights stand in for."""
    return {
        "name": name,
        "key": key,
        "reused": True,
        "epochs": 0,
        "seconds": 0.0,
        "images_per_second": 0.0,
        "carried": [],
        "reinitialised": [],
        "frozen": [],
        "weights": weights,
    }


def write_result(
    folder: Path,
    config: RunConfig,
    data: DomainDataModule,
    tested: Tested,
    stages: Sequence[dict[str, Any]],
    more: Mapping[str, Any],
) -> None:
    """Writes predictions.csv, then metrics.json, whose presence means that the run is finished.

    Args:
        tested: rows (N,) in the domain's samples, labels (N,), class probabilities (N, C).
        stages: an entry for each stage of the chain.
        more: further keys of metrics.json.
    """
    rows, labels, probabilities = tested
    write_atomically(
        folder / "predictions.csv",
        predictions(data, rows, labels, probabilities).to_csv(index=False),
    )
    result = figures(labels, probabilities, data.classes)
    per_class, confusion = result.pop("per_class"), result.pop("confusion")
    write_json(
        folder / "metrics.json",
        {
            "condition": config.condition,
            "chain": list(config.chain),
            "ratio": config.ratio,
            "seed": config.seed,
            "source_seed": config.source_seed,
            "test": result,
            "per_class": per_class,
            "confusion": confusion,
            "classes": list(data.classes),
            "num_train": data.count("train"),
            "num_train_per_class": data.count_by_class("train"),
            "num_validation": data.count("validation"),
            "num_test": data.count("test"),
            "splits": data.splits,
            "ratio_by": config.ratio_by,
            "test_copies": config.test_copies,
            **more,
            "stages": list(stages),
            "versions": versions(),
        },
    )


def predictions(
    data: DomainDataModule,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
) -> pd.DataFrame:
    """A row a test image: id, group, label, prediction and p_<class> for each class."""
    samples = data.samples
    table = pd.DataFrame(
        {
            "id": [samples.ids[i] for i in rows],
            "group": [samples.groups[i] if samples.groups else "" for i in rows],
            "label": [data.classes[i] for i in labels],
            "prediction": [data.classes[i] for i in probabilities.argmax(1)],
        }
    )
    for i, name in enumerate(data.classes):
        table[f"p_{name}"] = probabilities[:, i]
    return table


def versions() -> dict[str, str]:
    """What the result was made with."""
    names = ("stagetransfer", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
