"""The model card: what the network is, its training, its test metrics, its uses and its limits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from stagetransfer.export.onnx_file import Agreement
from stagetransfer.pipeline.restore import RestoredRun
from stagetransfer.reporting import formatting as fmt
from stagetransfer.runs.reader import stage_blocks
from stagetransfer.runs.study import Study


def model_card(run: RestoredRun, study: Study, agreement: Agreement | None, licence: str) -> str:
    """Return the card as Markdown, with the front matter that model hubs read.

    The study holds this run alone. The licence is "" if the weights' owner has not chosen one yet.
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
        precision=run.config.trainer.precision,
        stages=[_stage(entry) for entry in run.record["stages"]],
        classes=_classes(run, study),
        metrics=[(title, *_estimate(run, study, name)) for name, title in fmt.LABELS.items()],
        images=fmt.count(len(study.labels), "image"),
        groups=None if study.groups is None else fmt.count(study.num_groups, "group"),
        unit="images" if study.groups is None else "patients",
        crop=run.config.stages[-1].domain.get("crop"),
        limits=_limits(run, study),
        agreement=agreement,
        licence=licence,
    )


def _estimate(run: RestoredRun, study: Study, metric: str) -> tuple[str, str]:
    result = study.interval(run.condition, study.main_ratio, metric)
    return fmt.number(result.estimate), fmt.interval(result.low, result.high)


def _classes(run: RestoredRun, study: Study) -> list[list[str]]:
    """Return the cells of the table of classes."""
    trained: Mapping[str, int] = run.record.get("num_train_per_class") or {}
    rows = []
    for label, name in enumerate(study.classes):
        tested = study.labels == label
        groups = fmt.DASH if study.groups is None else len(np.unique(study.groups[tested]))
        row = [name, trained.get(name, fmt.DASH), tested.sum(), groups]
        row += _estimate(run, study, f"recall:{name}") if tested.any() else [fmt.DASH] * 2
        rows.append([str(cell) for cell in row])
    return rows


def _stage(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return a stage's row; of weights from a file, the file's name without its folder."""
    kinds = ("carried", "reinitialised", "frozen")
    blocks = {kind: ", ".join(stage_blocks(entry, kind)) or fmt.DASH for kind in kinds}
    if weights := entry.get("weights"):
        images = f"weights of {Path(weights).name}"
    else:
        images = f"{entry['num_train']} and {entry['num_validation']}"
    return {"name": str(entry["name"]), "images": images, "epochs": str(entry["epochs"]), **blocks}


def _limits(run: RestoredRun, study: Study) -> list[str]:
    lines = []
    if run.config.stages[-1].domain.get("layout") == "embedded":
        lines.append(
            "Trained and tested on generated images: it says nothing about images of patients."
        )
    lines += [
        "Tested on images from the same source as the training images. Other scanners, "
        "reconstruction kernels, fields of view, windows and populations were not tested.",
        "It knows only the classes above and assigns one of them to any image. Its probabilities "
        "are not calibrated.",
        "The intervals resample the patients of a single training. They do not include the "
        "variation between trainings with different seeds.",
    ]
    if study.groups is None:
        lines.append(
            "The patients are unknown, so each image was resampled as if it were a patient of its "
            "own. If several images come from one patient, the intervals are too narrow."
        )
    if study.few:
        lines.append(f"Fewer than ten {study.too_few}: the intervals there are not reliable.")
    if not study.runs[0].learned:
        lines.insert(0, f"This network did not learn its task: {study.runs[0].verdict}.")
    splits = run.record.get("splits")
    if splits and splits["folds"]:
        lines.append(
            f"Trained without fold {splits['fold']} of {splits['folds']} and tested on it: the "
            "metrics are those of this fold alone."
        )
    return lines
