"""What a calibrated classifier needs of its run besides the weights, stored in the run's folder.

`reference.safetensors` holds training images (at most 2,000, 64 pixels wide) with their features
(float16), labels and names, the distances, labels and logits of the validation images and, as text,
how patches were made. With this file, a run can predict without its data set. If the run has no
validation.csv (see docs/report.md), that is written too.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stagetransfer.ct.roi_patches import PatchSettings
from stagetransfer.data import DomainDataModule
from stagetransfer.data.images import resize
from stagetransfer.data.subset import subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.explain import input_to_rgb
from stagetransfer.files import atomic_path, csv_text, open_image, read_json, write_text
from stagetransfer.inference.calibrated_classifier import (
    MIN_PROBABILITY,
    CalibratedClassifier,
    TrainingDistance,
    split_forward,
)
from stagetransfer.models import Backbone
from stagetransfer.pipeline.restore import RestoredRun
from stagetransfer.pipeline.stage_record import predictions
from stagetransfer.statistics.calibration import fit_temperature
from stagetransfer.synthetic.lung import FIELD, WINDOW

FILE = "reference.safetensors"
_FEATURES = "channel means of blocks in either layout, outlier factor and distance, training images"
_ARRAYS = ("distances", "labels", "logits")
_SETTINGS = ("crop", "fit", "side", "field", "stated")
_EXAMPLE_SIDE = 64
_MAX_TRAINING_IMAGES = 2000
_BATCH = 128


@dataclass(frozen=True)
class Examples:
    """N training images, among which those most similar to a window are found."""

    images: Tensor  # (N, 1 or 3, S, S) uint8 as the network sees them, at most 64 pixels wide
    labels: Tensor  # (N,) their classes
    ids: tuple[str, ...]  # their names in the data set


@dataclass(frozen=True)
class Reference:
    """The reference of one run, of N training and M validation images."""

    features: Tensor  # (N, F) float16
    examples: Examples  # the training images
    distances: NDArray[np.float32]  # (M,) to the training images
    labels: NDArray[np.int64]  # (M,)
    logits: NDArray[np.float32]  # (M, C)
    patches: PatchSettings  # how the training patches were made
    stated: bool  # whether their data set says so; otherwise -600/1500 HU is assumed
    field: float | None  # the usual width of a training patch in mm; None if unknown
    crop: float  # these three: how images are read for the network, see `data.images`
    fit: str
    side: int

    @property
    def window_note(self) -> str:
        """The line that says that the grey window is assumed; empty if it is known."""
        if self.stated:
            return ""
        return (
            "note: the run's data set does not say how its patches were made, so that their grey "
            f"window is taken to be {self.patches.level:g}/{self.patches.width:g} HU. Give --window"
        )

    def classifier(
        self,
        run: RestoredRun,
        *,
        device: str,
        certain: float = MIN_PROBABILITY,
        familiar: float = 0.95,
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
            precision=run.config.trainer.precision,
        )


def open_reference(run: RestoredRun, device: str = "cpu") -> tuple[Reference, bool]:
    """Return the run's reference, and whether it is stored in the run's folder.

    A missing reference is computed from the run's data and stored, and so is one that was computed
    in another precision than the run's or by an older version. If the folder is read-only, it is
    computed each time.
    """
    path, precision = run.folder / FILE, run.config.trainer.precision
    if path.is_file() and (stored := _read(path, precision)) is not None:
        return stored, True
    computed = _compute(run, device)
    try:
        _write(computed, path, precision)
    except OSError:
        return computed, False
    return computed, True


def _compute(run: RestoredRun, device: str) -> Reference:
    data, network = run.data, run.network().to(device).to(memory_format=torch.channels_last)
    outputs = partial(_outputs, network, run, device)
    rows = data.rows["train"]
    labels = data.samples.labels[rows]
    chosen = np.arange(len(rows))
    if len(rows) > _MAX_TRAINING_IMAGES:
        share = _MAX_TRAINING_IMAGES / len(rows)
        chosen = subset_by_image(labels, share, 0, data.classes, keep_classes=True)
    training = torch.cat([features.half() for features, _ in outputs("train", chosen)])
    patches, stated, field = training_patches(data)
    distance = TrainingDistance(training)
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
        examples=_examples(run, chosen),
        distances=torch.cat(distances).numpy(),
        labels=labels,
        logits=scores.numpy(),
        patches=patches,
        stated=stated,
        field=field,
        crop=data.settings.crop,
        fit=data.settings.fit,
        side=round(data.stage.input_size / (1 - data.settings.crop)),
    )


@torch.inference_mode()
def _outputs(
    network: Backbone, run: RestoredRun, device: str, split: str, rows: NDArray[np.int64]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features and logits of a split's rows, batch by batch."""
    for first in range(0, len(rows), _BATCH):
        x = run.data.inputs(split, rows[first : first + _BATCH].tolist()).to(device)
        yield split_forward(network, x, run.config.trainer.precision)


def _examples(run: RestoredRun, chosen: NDArray[np.int64]) -> Examples:
    data, model = run.data, run.config.model
    mean, std = (torch.tensor(list(a)).view(3, 1, 1) for a in (model.mean, model.std))
    images = []
    for first in range(0, len(chosen), _BATCH):
        x = data.inputs("train", chosen[first : first + _BATCH].tolist())
        rgb = np.rint(255 * input_to_rgb(x, mean, std)).astype(np.uint8)
        channels_first = torch.from_numpy(rgb).permute(0, 3, 1, 2)
        images.append(resize(channels_first, min(_EXAMPLE_SIDE, x.shape[-1])))
    rows = data.rows["train"][chosen]
    whole = torch.cat(images)
    grey = bool((whole == whole[:, :1]).all())
    return Examples(
        (whole[:, :1] if grey else whole).contiguous(),  # safetensors takes no others
        torch.from_numpy(data.samples.labels[rows]),
        tuple(data.samples.ids[row] for row in rows),
    )


def training_patches(data: DomainDataModule) -> tuple[PatchSettings, bool, float | None]:
    """Return how the training patches were made, whether this is known, and their width in mm.

    It is known for the embedded data set, and from the summary.json that `stagetransfer extract`
    writes; if patches were not resampled, their usual width is that in labels.csv. For other data,
    their own size, the window -600/1500 HU and no resampling are assumed.
    """
    images = data.samples.images
    if isinstance(images, np.ndarray):
        size = int(images.shape[1])
        return PatchSettings(size=size, level=WINDOW[0], width=WINDOW[1]), True, FIELD
    root = Path(str(data.settings.root))
    if (root / "summary.json").is_file():
        # It may be the summary of another program.
        with contextlib.suppress(UserError, KeyError, TypeError, ValueError):
            cut = PatchSettings(**read_json(root / "summary.json")["cut"])
            return cut, True, _field(root / "labels.csv", cut)
    with open_image(images[0]) as image:
        return PatchSettings(size=min(image.size)), False, None


def _field(labels: Path, cut: PatchSettings) -> float | None:
    spacing = cut.spacing
    if spacing is None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            spacing = float(pd.read_csv(labels)["spacing"].astype(float).median())
    return None if spacing is None or np.isnan(spacing) else spacing * cut.size


def _write(reference: Reference, path: Path, precision: str) -> None:
    examples = reference.examples
    text = {
        "cut": asdict(reference.patches), "features": _FEATURES, "precision": precision,
        "ids": examples.ids, **{name: getattr(reference, name) for name in _SETTINGS},
    }  # fmt: skip
    tensors = {name: torch.from_numpy(getattr(reference, name)) for name in _ARRAYS}
    tensors["features"] = reference.features.contiguous()
    tensors |= {"images": examples.images, "training_labels": examples.labels}
    content = save(tensors, {"reference": json.dumps(text)})
    with atomic_path(path) as part:
        part.write_bytes(content)


def _read(path: Path, precision: str) -> Reference | None:
    """Return the stored reference; None if it has other features or another precision."""
    try:
        with safe_open(path, framework="pt") as file:
            text: dict[str, Any] = json.loads((file.metadata() or {})["reference"])
            if (text.get("features"), text.get("precision")) != (_FEATURES, precision):
                return None
            images, labels = (file.get_tensor(name) for name in ("images", "training_labels"))
            return Reference(
                features=file.get_tensor("features"),
                examples=Examples(images, labels, tuple(text["ids"])),
                **{name: file.get_tensor(name).numpy() for name in _ARRAYS},
                **{name: text[name] for name in _SETTINGS},
                patches=PatchSettings(**text["cut"]),
            )
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}). Remove it to compute it again") from error
