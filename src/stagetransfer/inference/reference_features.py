"""What a calibrated classifier needs of its run besides the weights, stored in the run's folder.

`reference.safetensors` holds the features of training images (float16), the distances, labels and
logits of the validation images and, as text, how patches were made. With this file, a run can
predict without its data set. If the run has no validation.csv (see docs/report.md), that is written
too.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stagetransfer.ct.roi_patches import PatchSettings
from stagetransfer.data import DomainDataModule
from stagetransfer.data.subset import subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.files import atomic_path, csv_text, open_image, read_json, write_text
from stagetransfer.inference.calibrated_classifier import (
    CalibratedClassifier,
    LocalOutlierFactor,
    split_forward,
)
from stagetransfer.models import Backbone
from stagetransfer.pipeline.restore import RestoredRun
from stagetransfer.pipeline.stage_record import predictions
from stagetransfer.statistics.calibration import fit_temperature
from stagetransfer.synthetic.lung import WINDOW

FILE = "reference.safetensors"
_FEATURES = "channel means of blocks, local outlier factor"
_ARRAYS = ("distances", "labels", "logits")
_SETTINGS = ("crop", "fit", "side")
_MAX_TRAINING_IMAGES = 2000
_BATCH = 128


@dataclass(frozen=True)
class Reference:
    """The reference of one run.

    Attributes:
        features: (N, F) float16 of training images.
        distances: (M,) of the validation images to them.
        labels, logits: (M,) and (M, C) of the validation images.
        patches: how the training patches were made, as far as their data set says.
        crop, fit, side: how images are read for the network, see `stagetransfer.data.images`.
        precision: in which the network computed features and logits.
    """

    features: Tensor
    distances: NDArray[np.float32]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    patches: PatchSettings
    crop: float
    fit: str
    side: int
    precision: str

    def classifier(
        self, run: RestoredRun, *, certain: float, familiar: float, device: str
    ) -> CalibratedClassifier:
        """Return the run's network as a classifier, calibrated with the validation images.

        Windows whose greatest probability is below `certain` are marked, and those whose distance
        is greater than that of the share `familiar` of the validation images.
        """
        return CalibratedClassifier(
            run.network(),
            tuple(run.record["classes"]),
            temperature=fit_temperature(self.labels, self.logits),
            features=self.features,
            max_distance=float(np.quantile(self.distances, familiar, method="higher")),
            min_probability=certain,
            mean=run.config.model.mean,
            std=run.config.model.std,
            crop=self.crop,
            device=device,
            precision=self.precision,
        )


def open_reference(run: RestoredRun, device: str = "cpu") -> tuple[Reference, bool]:
    """Return the run's reference, and whether it is stored in the run's folder.

    A missing reference is computed from the run's data and stored, and so is one that was computed
    in another precision than the run's. If the folder is read-only, it is computed each time.
    """
    path = run.folder / FILE
    if path.is_file():
        stored = _read(path)
        if stored.precision == run.config.trainer.precision:
            return stored, True
    computed = _compute(run, device)
    try:
        _write(computed, path)
    except OSError:
        return computed, False
    return computed, True


def _compute(run: RestoredRun, device: str) -> Reference:
    data, network = run.data, run.network().to(device).to(memory_format=torch.channels_last)
    rows = data.rows["train"]
    labels = data.samples.labels[rows]
    chosen = np.arange(len(rows))
    if len(rows) > _MAX_TRAINING_IMAGES:
        share = _MAX_TRAINING_IMAGES / len(rows)
        chosen = subset_by_image(labels, share, 0, classes=data.classes, keep_classes=True)
    outputs = partial(_outputs, network, run, device)
    training = torch.cat([features.half() for features, _ in outputs("train", chosen)])
    distance = LocalOutlierFactor(training)
    logits, distances = [], []
    for features, scores in outputs("validation", np.arange(data.count("validation"))):
        logits.append(scores.cpu())
        distances.append(distance(features).cpu())
    scores = torch.cat(logits)
    rows = data.rows["validation"]
    labels = data.samples.labels[rows]
    if not (run.folder / "validation.csv").is_file():
        table = predictions(data, (rows, labels, scores.double().softmax(1).numpy())).table()
        with contextlib.suppress(OSError):
            write_text(run.folder / "validation.csv", csv_text(table))
    return Reference(
        features=training.cpu(),
        distances=torch.cat(distances).numpy(),
        labels=labels,
        logits=scores.numpy(),
        patches=training_patches(data),
        crop=data.settings.crop,
        fit=data.settings.fit,
        side=round(data.stage.input_size / (1 - data.settings.crop)),
        precision=run.config.trainer.precision,
    )


@torch.inference_mode()
def _outputs(
    network: Backbone, run: RestoredRun, device: str, split: str, rows: NDArray[np.int64]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features and logits of a split's rows, batch by batch."""
    for first in range(0, len(rows), _BATCH):
        x = run.data.inputs(split, rows[first : first + _BATCH].tolist()).to(device)
        yield split_forward(network, x, run.config.trainer.precision)


def training_patches(data: DomainDataModule) -> PatchSettings:
    """Return how the training patches were made.

    This is known for the embedded data set, and from the summary.json that `stagetransfer extract`
    writes. For other data, their own size, the window -600/1500 HU and no resampling are assumed.
    """
    images = data.samples.images
    if isinstance(images, np.ndarray):
        return PatchSettings(size=int(images.shape[1]), level=WINDOW[0], width=WINDOW[1])
    summary = Path(str(data.settings.root)) / "summary.json"
    if summary.is_file():
        try:
            return PatchSettings(**read_json(summary)["cut"])
        except (UserError, KeyError, TypeError, ValueError):
            pass  # the summary of another program
    with open_image(images[0]) as image:
        return PatchSettings(size=min(image.size))


def _write(reference: Reference, path: Path) -> None:
    settings = {name: getattr(reference, name) for name in (*_SETTINGS, "precision")}
    text = {"cut": asdict(reference.patches), "features": _FEATURES, **settings}
    tensors = {name: torch.from_numpy(getattr(reference, name)) for name in _ARRAYS}
    tensors["features"] = reference.features.contiguous()
    content = save(tensors, {"reference": json.dumps(text)})
    with atomic_path(path) as part:
        part.write_bytes(content)


def _read(path: Path) -> Reference:
    try:
        with safe_open(path, framework="pt") as file:
            text: dict[str, Any] = json.loads((file.metadata() or {})["reference"])
            return Reference(
                features=file.get_tensor("features"),
                **{name: file.get_tensor(name).numpy() for name in _ARRAYS},
                **{name: text[name] for name in _SETTINGS},
                patches=PatchSettings(**text["cut"]),
                # Older files have other features, and no precision: "" has them computed again.
                precision=text["precision"] if text.get("features") == _FEATURES else "",
            )
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}). Remove it to compute it again") from error
