"""What a frozen part of the network gives for each image, in place of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stagetransfer.data.images import Batch


class FeatureBatch(NamedTuple):
    """B labelled images, as the frozen part of a network gives them."""

    features: Tensor  # (B, F) or (B, C, H, W) float32
    labels: Tensor  # (B,) int64
    rows: Tensor  # (B,) int64


AnyBatch = Batch | FeatureBatch


class FeatureSet(Dataset[FeatureBatch]):
    """Features of N images, read into memory if they fit the limit, else from the file on use.

    Args:
        features: (M, F) or (M, H, W, C), a memory map; channels last, as convolutions read them.
        places: (N,) where the images lie in it.
        labels: (N,).
        rows: (N,) the images' numbers in the domain's samples.
        memory_limit: bytes.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        places: NDArray[np.int64],
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        memory_limit: float,
    ) -> None:
        self.features = features
        self.places = places
        self.labels = torch.from_numpy(labels)
        self.rows = torch.from_numpy(rows)
        size = len(places) * features[:1].nbytes
        self.held = torch.from_numpy(features[places]) if size <= memory_limit else None

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, indices: Sequence[int]) -> FeatureBatch:
        """One batch at once; DataLoader calls this in place of `__getitem__`."""
        index = torch.as_tensor(indices)
        if self.held is not None:
            found = self.held[index]
        else:
            found = torch.from_numpy(self.features[self.places[np.asarray(indices)]])
        if found.ndim == 4:
            found = found.permute(0, 3, 1, 2)
        return FeatureBatch(found, self.labels[index], self.rows[index])
