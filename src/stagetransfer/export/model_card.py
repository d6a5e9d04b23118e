"""The model card: what the network is, its training, its test metrics, its uses and its limits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stagetransfer.errors import UserError
from stagetransfer.export.onnx_file import Agreement
from stagetransfer.files import read_json
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.render import templates_of
from stagetransfer.pipeline.restore import RestoredRun
from stagetransfer.runs.reader import stage_blocks
from stagetransfer.runs.study import Study


def model_card(run: RestoredRun, study: Study, agreement: Agreement | None, licence: str) -> str:
    """Return the card as Markdown, with the front matter that model hubs read.

    The study holds this run alone. The licence is "" if the weights' owner has not chosen one yet.
    """
    environment = templates_of("stagetransfer.export")
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    return environment.get_template("card.md.jinja").render(
        name=run.folder.name,
        record=run.record,
        model=run.config.model,
        precision=run.config.trainer.precision,
        domain=run.config.stages[-1].domain,
        of_slices=_of_slices(run.config.stages[-1].domain),
        study=study,
        stages=[_stage(entry) for entry in run.record["stages"]],
        classes=_classes(run, study),
        metrics=[(title, *_estimate(run, study, name)) for name, title in fmt.LABELS.items()],
        images=fmt.count(len(study.labels), "image"),
        groups=None if study.groups is None else fmt.count(study.num_groups, "group"),
        unit="images" if study.groups is None else "patients",
        agreement=agreement,
        licence=licence,
    )


def _of_slices(domain: Mapping[str, Any]) -> bool:
    """Return whether `stagetransfer extract` made the images of three slices; see summary.json."""
    try:
        return bool(read_json(Path(str(domain.get("root"))) / "summary.json")["cut"]["neighbours"])
    except (UserError, KeyError, TypeError):  # no such file, or that of another program
        return False


def _estimate(run: RestoredRun, study: Study, metric: str) -> tuple[str, str]:
    result = study.interval(run.condition, study.main_ratio, metric)
    return fmt.number(result.estimate), fmt.interval(result.low, result.high)


def _classes(run: RestoredRun, study: Study) -> list[list[object]]:
    """Return the rows of the table of classes."""
    trained: Mapping[str, int] = run.record.get("num_train_per_class") or {}
    rows = []
    for label, name in enumerate(study.classes):
        tested = study.labels == label
        groups = fmt.DASH if study.groups is None else len(np.unique(study.groups[tested]))
        recall = _estimate(run, study, f"recall:{name}") if tested.any() else (fmt.DASH, fmt.DASH)
        rows.append([name, trained.get(name, fmt.DASH), tested.sum(), groups, *recall])
    return rows


def _stage(entry: Mapping[str, Any]) -> list[object]:
    """Return a stage's row; of weights from a file, the file's name without its folder."""
    kinds = ("carried", "reinitialised", "frozen")
    blocks = [fmt.join(stage_blocks(entry, kind)) for kind in kinds]
    if weights := entry.get("weights"):
        images = f"weights of {Path(weights).name}"
    else:
        images = f"{entry['num_train']} and {entry['num_validation']}"
    return [entry["name"], images, entry["epochs"], *blocks]
