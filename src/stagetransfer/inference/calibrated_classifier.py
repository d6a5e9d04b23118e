"""A trained network that knows its limits: calibrated probabilities, and what it does not know.

Two marks stand before any class:

* unlike the training data: with f the features of fc7 (after its ReLU), scaled to length 1, a
  window's distance is |f - f_k| to the k-th nearest of the training images (k = 10). Beyond the
  distance within which 95 % of the validation images lie it counts as unlike. Sun, Ming, Zhu, Li
  2022, "Out-of-distribution detection with deep nearest neighbors" (ICML), with their threshold;
  they find that a small sample of the training images does, hence at most 2,000 of them.
* uncertain: the greatest calibrated probability is below 0.5: more likely wrong than right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.data.images import centre_crop, to_input
from stagetransfer.inference.window_labels import codes
from stagetransfer.models import AlexNet

NEIGHBOURS = 10
FAMILIAR = 0.95
CERTAIN = 0.5


@dataclass(frozen=True)
class Verdicts:
    """On N windows.

    Attributes:
        probabilities: (N, C) calibrated, float64.
        distances: (N,) to the k-th nearest training image, in [0, 2].
        codes: (N,) see `stagetransfer.inference.window_labels.codes`.
    """

    probabilities: NDArray[np.float64]
    distances: NDArray[np.float64]
    codes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def forced(self) -> NDArray[np.int64]:
        """(N,) the most probable class, whatever the marks."""
        return np.asarray(self.probabilities.argmax(1), np.int64)


class Judge:
    """Judges images as the run's test did its own.

    Args:
        network: trained; taken to `device`.
        classes: C names.
        temperature: see `stagetransfer.statistics.calibration`.
        features: (N, F) of training images, of length 1.
        limit: distance beyond which a window counts as unlike them.
        certain: least probability of a class.
        mean, std: (3,) of the network's input.
        crop: share of the side that training cut away.
    """

    def __init__(
        self,
        network: AlexNet,
        classes: tuple[str, ...],
        *,
        temperature: float,
        features: Tensor,
        limit: float,
        certain: float = CERTAIN,
        mean: Iterable[float],
        std: Iterable[float],
        crop: float = 0.0,
        device: str = "cpu",
    ) -> None:
        self.classes = classes
        self.codes = codes(classes)
        self.temperature, self.limit, self.certain, self.crop = temperature, limit, certain, crop
        self.device = torch.device(device)
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self._features = features.to(self.device, torch.float32).T.contiguous()
        self._neighbours = min(NEIGHBOURS, len(features))
        self.mean, self.std = (
            torch.tensor(list(a)).view(3, 1, 1).to(self.device) for a in (mean, std)
        )

    def inputs(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) network input of images (B, 1 or 3, H, W) uint8, on the judge's device."""
        x = centre_crop(images.to(self.device), self.crop)
        return to_input(x, self.network.input_size, self.mean, self.std)

    @torch.inference_mode()
    def __call__(self, batches: Iterable[Tensor]) -> Verdicts:
        """The verdicts on batches (B, 1 or 3, H, W) uint8, in their order."""
        logits, distances = [], []
        for images in batches:
            features, scores = split_forward(self.network, self.inputs(images))
            logits.append(scores)
            distances.append(distance(features, self._features, self._neighbours))
        if not logits:
            return self.verdicts(np.zeros((0, len(self.classes))), np.zeros(0))
        # Together at the end: a GPU does not wait for a copy after each batch.
        return self.verdicts(torch.cat(logits).cpu().numpy(), torch.cat(distances).cpu().numpy())

    def verdicts(self, logits: NDArray[np.floating], distances: NDArray[np.floating]) -> Verdicts:
        """From logits (N, C) and distances (N,)."""
        z = torch.from_numpy(np.asarray(logits, np.float64)) / self.temperature
        p = z.softmax(1).numpy()
        found = p.argmax(1) if len(p) else np.zeros(0, np.int64)
        found = np.where(p.max(1, initial=0) < self.certain, len(self.classes), found)
        found = np.where(distances > self.limit, len(self.classes) + 1, found)
        return Verdicts(p, np.asarray(distances, np.float64), found.astype(np.int64))


def split_forward(network: AlexNet, x: Tensor) -> tuple[Tensor, Tensor]:
    """fc7's features (B, F) scaled to length 1, and logits (B, C), of inputs (B, 3, S, S)."""
    cut = [name for name, _ in network.named_children()].index("relu7") + 1
    hidden = network[:cut](x)
    return F.normalize(hidden), network[cut:](hidden)


def distance(features: Tensor, others: Tensor, k: int) -> Tensor:
    """(B,) distance of (B, F) to the k-th nearest of N `others` (F, N); all of length 1."""
    alike = (features @ others).topk(k, dim=1).values[:, -1]
    return (2 - 2 * alike).clamp_min(0).sqrt()
