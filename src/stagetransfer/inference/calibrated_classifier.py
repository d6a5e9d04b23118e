"""A trained network with calibrated probabilities, which marks what it should not classify.

Two marks take precedence over the classes:

* Unlike the training data. Let f be the features that the head gets, scaled to length 1. The
  distance of a window is |f - f_k|, to the k-th nearest training image (k = 10). A window is
  marked if its distance is greater than that of 95 % of the validation images. Method and
  threshold: Sun, Ming, Zhu, Li 2022, "Out-of-distribution detection with deep nearest neighbors"
  (ICML). They find that a small sample of the training images is enough, so at most 2,000 are used.
* Uncertain. The greatest calibrated probability is below 0.5, so that an error is more likely than
  not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.data.images import centre_crop, to_input
from stagetransfer.inference.label_map import label_names
from stagetransfer.models import Backbone
from stagetransfer.training.machine import autocast

NEIGHBOURS = 10
MIN_PROBABILITY = 0.5


@dataclass(frozen=True)
class WindowPredictions:
    """The predictions of N windows: calibrated probabilities (N, C), distances (N,) and codes (N,).

    The distance to the k-th nearest training image lies in [0, 2]. For the codes see
    `stagetransfer.inference.label_map`.
    """

    probabilities: NDArray[np.float64]
    distances: NDArray[np.float64]
    codes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def most_probable(self) -> NDArray[np.int64]:
        """(N,) the most probable class, whether marked or not."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    def table(self, names: tuple[str, ...], first: Mapping[str, Any]) -> pd.DataFrame:
        """Return one row per window: the columns `first`, then those of its prediction.

        These are opinion (class or mark), class (the most probable), distance and p_<class>. The
        names are those of the codes.
        """
        p = self.probabilities.T
        return pd.DataFrame(
            {
                **first,
                "opinion": [names[code] for code in self.codes],
                "class": [names[code] for code in self.most_probable],
                "distance": self.distances,
                **{f"p_{name}": p[code] for code, name in enumerate(names[: len(p)])},
            }
        )


class CalibratedClassifier:
    """Classifies images as the run's own test does.

    Args:
        temperature: see `stagetransfer.statistics.calibration`.
        features: (N, F) of training images, of length 1.
        max_distance: the distance beyond which a window is marked as unlike the training data.
        min_probability: windows whose greatest probability is lower are marked as uncertain.
        mean, std: (3,) of the network's input.
        crop: share of the side that training cropped.
        precision: the run's precision, see `stagetransfer.training.machine.autocast`.
    """

    def __init__(
        self,
        network: Backbone,
        classes: tuple[str, ...],
        *,
        temperature: float,
        features: Tensor,
        max_distance: float,
        min_probability: float = MIN_PROBABILITY,
        mean: Iterable[float],
        std: Iterable[float],
        crop: float = 0.0,
        device: str = "cpu",
        precision: str = "32-true",
    ) -> None:
        self.classes, self.label_names = classes, label_names(classes)
        self.temperature, self.crop = temperature, crop
        self.max_distance, self.min_probability = max_distance, min_probability
        self.device, self.precision = torch.device(device), precision
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self._features = features.to(self.device, torch.float32).T.contiguous()
        self._neighbours = min(NEIGHBOURS, len(features))
        self.mean, self.std = (
            torch.tensor(list(a)).view(3, 1, 1).to(self.device) for a in (mean, std)
        )

    def inputs(self, images: Tensor) -> Tensor:
        """Return the network input (B, 3, S, S) of images (B, 1 or 3, H, W) uint8."""
        x = centre_crop(images.to(self.device), self.crop)
        return to_input(x, self.network.input.size, self.mean, self.std)

    @torch.inference_mode()
    def __call__(self, batches: Iterable[Tensor]) -> WindowPredictions:
        """Return the predictions of batches (B, 1 or 3, H, W) uint8, in their order."""
        logits, distances = [], []
        for images in batches:
            features, scores = split_forward(self.network, self.inputs(images), self.precision)
            logits.append(scores)
            distances.append(neighbour_distance(features, self._features, self._neighbours))
        if not logits:
            return self.predictions(np.zeros((0, len(self.classes))), np.zeros(0))
        # Copied at the end, so that a GPU does not wait for a copy after each batch.
        return self.predictions(torch.cat(logits).cpu().numpy(), torch.cat(distances).cpu().numpy())

    def predictions(
        self, logits: NDArray[np.floating], distances: NDArray[np.floating]
    ) -> WindowPredictions:
        """Return the predictions from logits (N, C) and distances (N,)."""
        z = torch.from_numpy(np.asarray(logits, np.float64)) / self.temperature
        p = z.softmax(1).numpy()
        codes = p.argmax(1) if len(p) else np.zeros(0, np.int64)
        codes = np.where(p.max(1, initial=0) < self.min_probability, len(self.classes), codes)
        codes = np.where(distances > self.max_distance, len(self.classes) + 1, codes)
        return WindowPredictions(p, np.asarray(distances, np.float64), codes.astype(np.int64))


def split_forward(network: Backbone, x: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Return the head's input (B, F), scaled to length 1, and logits (B, C), both float32.

    The network computes in the precision of its run, so that the logits are those of its own test.
    """
    with autocast(precision, x.device.type):
        hidden, logits = network.embed(x)
    return F.normalize(hidden.float()), logits.float()


def neighbour_distance(features: Tensor, others: Tensor, k: int) -> Tensor:
    """Return the distances (B,) of unit features (B, F) to the k-th nearest of N others (F, N)."""
    similarity = (features @ others).topk(k, dim=1).values[:, -1]
    return (2 - 2 * similarity).clamp_min(0).sqrt()
