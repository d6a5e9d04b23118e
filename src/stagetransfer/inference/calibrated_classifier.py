"""A trained network with calibrated probabilities, which marks what it should not classify.

Two marks take precedence over the classes:

* Unlike the training data. Let f be the mean of each channel of each block, in standard deviations
  over the training images, and d(f) the distance to the k-th nearest training image (k = 10). The
  mean of d(f) / d(g) over the k nearest training images g is the simplified local outlier factor
  (Schubert, Zimek, Kriegel 2014, "Local outlier detection reconsidered", DMKD 28). It allows for
  rare classes, whose images are far apart, but also for whatever lies among outlying training
  images. The distance of a window is therefore the weighted geometric mean of this factor (3/4) and
  of d(f) over the median d of the training images (1/4). A window is marked if it is greater than
  that of 95 % of the validation images. benchmarks/unfamiliar.py compares it with other scores. At
  most 2,000 training images are used.
* Uncertain. The greatest calibrated probability is below 0.5, so that an error is more likely than
  not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
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

    The distance from the training images is 1 for what lies among them. For the codes see
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
        features: (N, F) of training images, see `split_forward`.
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
        self._distance = TrainingDistance(features.to(self.device))
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
        logits = [torch.zeros(0, len(self.classes), device=self.device)]
        distances = [torch.zeros(0, device=self.device)]
        for images in batches:
            features, scores = split_forward(self.network, self.inputs(images), self.precision)
            logits.append(scores)
            distances.append(self._distance(features))
        # Copied at the end, so that a GPU does not wait for a copy after each batch.
        return self.predictions(torch.cat(logits).cpu().numpy(), torch.cat(distances).cpu().numpy())

    @torch.inference_mode()
    def nearest(self, image: Tensor, count: int) -> tuple[list[float], list[int]]:
        """Return the distances and numbers of the training images nearest to an image (1, ...).

        The distances are between features in standard deviations.
        """
        features, _ = split_forward(self.network, self.inputs(image), self.precision)
        distances, numbers = self._distance.nearest(features, count)
        return distances[0].tolist(), numbers[0].tolist()

    def predictions(
        self, logits: NDArray[np.floating], distances: NDArray[np.floating]
    ) -> WindowPredictions:
        """Return the predictions from logits (N, C) and distances (N,)."""
        z = torch.from_numpy(np.asarray(logits, np.float64)) / self.temperature
        p = z.softmax(1).numpy()
        codes = np.where(p.max(1) < self.min_probability, len(self.classes), p.argmax(1))
        codes = np.where(distances > self.max_distance, len(self.classes) + 1, codes)
        return WindowPredictions(p, np.asarray(distances, np.float64), codes.astype(np.int64))


def split_forward(network: Backbone, x: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Return the channel means of all blocks (B, F), and logits (B, C), both float32.

    The features are those of blocks whose outputs are maps or tokens; the head's input if there are
    none. The network computes in the precision of its run, so that the logits are those of its own
    test.
    """
    with autocast(precision, x.device.type), network.watched(network.blocks[:-1]) as outputs:
        hidden, logits = network.embed(x)
    means = [network.channel_means(y.float()) for y in outputs.values() if y.dim() > 2]
    return torch.cat(means or [hidden.float()], dim=1), logits.float()


class TrainingDistance:
    """How far features are from those of N training images (N, F), by which they are standardised.

    See the module. 1 is usual.
    """

    def __init__(self, others: Tensor, k: int = NEIGHBOURS) -> None:
        others, self._k = others.float(), min(k, len(others) - 1)
        # Of a channel that no training image activates, any value is far.
        self._centre, self._spread = others.mean(0), others.std(0, correction=0) + 1e-6
        self._others = (others - self._centre) / self._spread
        # The nearest to an image is the image itself.
        own = torch.cdist(self._others, self._others).topk(self._k + 1, largest=False)
        self._own = own.values[:, -1].clamp_min(1e-6)
        self._usual = self._own.median()

    def __call__(self, features: Tensor) -> Tensor:
        """Return the distances (B,) of features (B, F)."""
        distances, numbers = self.nearest(features, self._k)
        away = distances[:, -1]
        factor = away * (1 / self._own[numbers]).mean(1)
        found: Tensor = factor**0.75 * (away / self._usual) ** 0.25
        return found

    def nearest(self, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the distances and numbers (B, count) of the nearest of the others, in order."""
        distances = torch.cdist((features - self._centre) / self._spread, self._others)
        found = distances.topk(min(count, len(self._others)), largest=False)
        return found.values, found.indices
