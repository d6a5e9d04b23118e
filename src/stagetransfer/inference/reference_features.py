"""What a judge needs of its run beside the weights, gathered once and kept in the run's folder.

`reference.safetensors`: features of training images (float16), distances, labels and logits of the
validation images, and, as text, how patches were cut. With it, a run judges without its data set.
Where the run has no validation.csv (see docs/report.md), that is written too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stagetransfer.ct.roi_patches import Cut
from stagetransfer.data import DomainDataModule
from stagetransfer.data.subset import subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.files import atomic_path, read_json, write_text
from stagetransfer.inference.calibrated_classifier import (
    CERTAIN,
    FAMILIAR,
    NEIGHBOURS,
    Judge,
    distance,
    split_forward,
)
from stagetransfer.models import AlexNet
from stagetransfer.pipeline.restore import FinishedRun
from stagetransfer.pipeline.stage_record import predictions
from stagetransfer.statistics.calibration import fit_temperature
from stagetransfer.synthetic.lung import WINDOW

FILE = "reference.safetensors"
_MOST = 2000
_BATCH = 128


@dataclass(frozen=True)
class Reference:
    """Of one run.

    Attributes:
        features: (N, F) float16 of training images, of length 1.
        distances: (M,) of the validation images to them.
        labels, logits: (M,) and (M, C) of the validation images.
        cut: how the training patches were cut, as far as their data set tells.
        crop, fit, side: how images are read for the network, see `stagetransfer.data.images`.
    """

    features: Tensor
    distances: NDArray[np.float32]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    cut: Cut
    crop: float
    fit: str
    side: int

    @property
    def temperature(self) -> float:
        """Fitted to the validation images."""
        return fit_temperature(self.labels, self.logits)

    def limit(self, familiar: float = FAMILIAR) -> float:
        """The distance within which this share of the validation images lies."""
        return float(np.quantile(self.distances, familiar, method="higher"))

    def judge(
        self,
        run: FinishedRun,
        *,
        certain: float = CERTAIN,
        familiar: float = FAMILIAR,
        device: str = "cpu",
    ) -> Judge:
        """The run's network with all this."""
        return Judge(
            run.network(),
            tuple(run.record["classes"]),
            temperature=self.temperature,
            features=self.features,
            limit=self.limit(familiar),
            certain=certain,
            mean=run.config.model.mean,
            std=run.config.model.std,
            crop=self.crop,
            device=device,
        )


def reference(run: FinishedRun, device: str = "cpu") -> tuple[Reference, bool]:
    """The run's reference: kept, or else gathered from its data and kept; and whether it is kept.

    A folder that can't be written to is no error: it is then gathered each time.

    Raises:
        UserError: the data can't be read or has changed, or the kept file is damaged.
    """
    path = run.folder / FILE
    if path.is_file():
        return _read(path), True
    gathered = _gather(run, device)
    try:
        _write(gathered, path)
    except OSError:
        return gathered, False
    return gathered, True


def _gather(run: FinishedRun, device: str) -> Reference:
    data, network = run.data, run.network().to(device).to(memory_format=torch.channels_last)
    rows = data.rows["train"]
    labels = data.samples.labels[rows]
    kept = np.arange(len(rows))
    if len(rows) > _MOST:
        kept = subset_by_image(
            labels, _MOST / len(rows), 0, classes=data.classes, keep_classes=True
        )
    trained = torch.cat([f for f, _ in _outputs(network, data, "train", kept, device)])
    features, logits, distances = [], [], []
    k = min(NEIGHBOURS, len(trained))
    for f, z in _outputs(network, data, "validation", np.arange(data.count("validation")), device):
        logits.append(z.cpu())
        distances.append(distance(f, trained.T, k).cpu())
        features.append(f)
    held = data.rows["validation"]
    scores = torch.cat(logits)
    if not (run.folder / "validation.csv").is_file():
        truth = data.samples.labels[held]
        table = predictions(data, (held, truth, scores.double().softmax(1).numpy())).table()
        with contextlib.suppress(OSError):
            write_text(run.folder / "validation.csv", table.to_csv(index=False))
    return Reference(
        features=trained.to("cpu", torch.float16),
        distances=torch.cat(distances).numpy(),
        labels=data.samples.labels[held],
        logits=scores.numpy(),
        cut=training_cut(data),
        crop=data.settings.crop,
        fit=data.settings.fit,
        side=round(data.stage.input_size / (1 - data.settings.crop)),
    )


@torch.inference_mode()
def _outputs(
    network: AlexNet, data: DomainDataModule, split: str, rows: NDArray[np.int64], device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, len(rows), _BATCH):
        x = data.inputs(split, rows[first : first + _BATCH].tolist()).to(device)
        yield split_forward(network, x)


def training_cut(data: DomainDataModule) -> Cut:
    """How the training patches were cut: by the summary of `stagetransfer extract` beside them;
    else their own size, the window -600/1500 HU and the slices' own pixels."""
    images = data.samples.images
    if isinstance(images, np.ndarray):
        return Cut(size=int(images.shape[1]), level=WINDOW[0], width=WINDOW[1])
    summary = Path(str(data.settings.root)) / "summary.json"
    if summary.is_file():
        try:
            return Cut(**read_json(summary)["cut"])
        except (KeyError, TypeError, ValueError):
            pass  # another program's summary
    with Image.open(images[0]) as image:
        return Cut(size=min(image.size))


def _write(kept: Reference, path: Path) -> None:
    text = {"cut": asdict(kept.cut), "crop": kept.crop, "fit": kept.fit, "side": kept.side}
    tensors = {
        "features": kept.features.contiguous(),
        "distances": torch.from_numpy(kept.distances),
        "labels": torch.from_numpy(kept.labels),
        "logits": torch.from_numpy(kept.logits),
    }
    content = save(tensors, {"reference": json.dumps(text)})
    with atomic_path(path) as part:
        part.write_bytes(content)


def _read(path: Path) -> Reference:
    try:
        with safe_open(path, framework="pt") as file:
            known: dict[str, Any] = json.loads((file.metadata() or {})["reference"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Reference(
                features=tensors["features"],
                distances=tensors["distances"].numpy(),
                labels=tensors["labels"].numpy(),
                logits=tensors["logits"].numpy(),
                cut=Cut(**known["cut"]),
                crop=known["crop"],
                fit=known["fit"],
                side=known["side"],
            )
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); remove it, it is made again") from error
