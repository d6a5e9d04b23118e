"""The model card: what the network is, was trained on and tested at, and is not to be used for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from stagetransfer.export.onnx_file import Agreement
from stagetransfer.pipeline.restore import FinishedRun
from stagetransfer.reporting import formatting as fmt
from stagetransfer.runs.study import Study


def model_card(run: FinishedRun, study: Study, agreement: Agreement | None, licence: str) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        study: of this run alone.
        agreement: of model.onnx, if it was written.
        licence: of the weights; "" where its owner has not chosen yet.
    """
    environment = Environment(
        loader=PackageLoader("stagetransfer.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    return environment.get_template("card.md.jinja").render(
        name=run.folder.name,
        record=run.record,
        model=run.config.model,
        stages=[_stage(entry) for entry in run.record["stages"]],
        classes=_classes(run, study),
        figures=_figures(run, study),
        test=_test_set(study),
        unit="images" if study.groups is None else "patients",
        crop=run.config.stages[-1].domain.get("crop"),
        limits=_limits(run, study),
        agreement=agreement,
        licence=licence,
    )


def _figures(run: FinishedRun, study: Study) -> list[tuple[str, str, str]]:
    """Name, value and 95 % interval."""
    place = run.condition, study.main_ratio
    found = [(said, study.interval(*place, name)) for name, said in fmt.LABELS.items()]
    return [(said, fmt.number(of.estimate), fmt.interval(of.low, of.high)) for said, of in found]


def _classes(run: FinishedRun, study: Study) -> list[dict[str, str]]:
    """Images of each class, and its recall with the interval."""
    trained: Mapping[str, int] = run.record.get("num_train_per_class") or {}
    rows = []
    for label, name in enumerate(study.classes):
        tested = study.labels == label
        recall = (
            study.interval(run.condition, study.main_ratio, f"recall:{name}")
            if tested.any()
            else None
        )
        rows.append(
            {
                "name": name,
                "train": str(trained.get(name, fmt.DASH)),
                "test": str(int(tested.sum())),
                "groups": fmt.DASH
                if study.groups is None
                else str(len(np.unique(study.groups[tested]))),
                "recall": fmt.number(recall.estimate) if recall else fmt.DASH,
                "interval": fmt.interval(recall.low, recall.high) if recall else fmt.DASH,
            }
        )
    return rows


def _stage(entry: Mapping[str, Any]) -> dict[str, str]:
    """A row of the chain; of weights that stood in, the file's name without its folder."""
    layers = {
        key: ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in entry[key])) or fmt.DASH
        for key in ("carried", "reinitialised", "frozen")
    }
    if weights := entry.get("weights"):
        images = f"weights of {Path(weights).name}"
    else:
        images = f"{entry['num_train']} and {entry['num_validation']}"
    return {"name": str(entry["name"]), "images": images, "epochs": str(entry["epochs"]), **layers}


def _test_set(study: Study) -> str:
    groups = (
        "" if study.groups is None else f" of {fmt.count(study.num_groups, 'group')} (patients)"
    )
    return f"{fmt.count(len(study.labels), 'image')}{groups}"


def _limits(run: FinishedRun, study: Study) -> list[str]:
    target = run.config.stages[-1].domain
    splits = run.record.get("splits")
    lines = [
        "Tested on images of the same source as those it was trained on. Other scanners, "
        "reconstruction kernels, fields of view, windows and populations were not tested.",
        "It knows only the classes above: any other image gets one of them. Its probabilities are "
        "not calibrated.",
        "The intervals resample patients of this one training: they do not know how trainings "
        "from other seeds differ.",
    ]
    if target.get("layout") == "embedded":
        lines.insert(
            0, "Trained and tested on generated images: it says nothing about images of patients."
        )
    if study.groups is None:
        lines.append(
            "Patients are unknown, so images were resampled as if each were its own patient: the "
            "intervals are too narrow if they are not."
        )
    if study.few:
        few = ", ".join(f"{name} ({n})" for name, n in study.few.items())
        unit = "images" if study.groups is None else "groups"
        lines.append(f"Fewer than ten {unit} in {few}: intervals are not to be trusted there.")
    if splits and splits["folds"]:
        lines.append(
            f"Trained without fold {splits['fold']} of {splits['folds']}, which it was tested on: "
            "the figures are of this fold alone."
        )
    return lines
