"""The entries of `stages` in metrics.json and stage.json, and the predictions of a data module."""

from dataclasses import asdict
from typing import Any

from stagetransfer.config.schema import Model
from stagetransfer.data import DomainDataModule
from stagetransfer.models import Backbone
from stagetransfer.pipeline.stage import PreparedStage
from stagetransfer.runs.predictions import Predictions
from stagetransfer.training import Fitted, Health, TestResult


def trained_entry(prepared: PreparedStage, fitted: Fitted, health: Health) -> dict[str, Any]:
    """Return the entry of a stage that was trained."""
    data = prepared.images
    return {
        "name": prepared.stage.name,
        "key": prepared.key,
        "reused": False,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "seconds": fitted.seconds,
        "images_per_second": fitted.images_per_second,
        **asdict(fitted.transfer),
        "validation": fitted.validation,
        **({"learning_rate": fitted.learning_rate} if fitted.learning_rate else {}),
        "health": health.record,
        "num_train": data.count("train"),
        "num_validation": data.count("validation"),
        "num_validation_classes": len({*data.labels("validation").tolist()}),
        "fingerprint": data.fingerprint,
    }


def data_entry(data: DomainDataModule, tested: TestResult, validated: TestResult) -> dict[str, Any]:
    """Return what metrics.json holds of the target's images, and of those that were tested."""
    groups, rows = data.samples.groups, tested[0].tolist()
    return {
        "num_train": data.count("train"),
        "num_train_per_class": data.count_by_class("train"),
        **data.settings.planted,
        **data.settings.worsened,
        **({"num_wrong_labels": data.wrong_labels} if data.settings.label_noise else {}),
        "num_validation": len(validated[0]),
        "num_test": len(rows),
        "num_test_groups": None if groups is None else len({groups[row] for row in rows}),
        "identical_images": data.copies.record(),
        "splits": data.split_file_record,
    }


def network_entry(model: Model, network: Backbone) -> dict[str, Any]:
    """Return what metrics.json holds of the network: its name, and the tensors of its blocks."""
    name = model.name or f"AlexNet ({model.variant})"
    blocks = {block: list(network.state([block])) for block in network.blocks}
    return {"backbone": name, "blocks": blocks}


def predictions(data: DomainDataModule, tested: TestResult) -> Predictions:
    """Return the network's predictions with the names, patients and classes of the images."""
    rows, labels, probabilities = tested
    samples = data.samples
    return Predictions(
        ids=[samples.ids[i] for i in rows],
        groups=[samples.groups[i] for i in rows] if samples.groups else None,
        labels=labels,
        probabilities=probabilities,
        classes=data.classes,
    )
