"""The pooled features of every block of a network, computed once and kept in a file."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.data import DomainDataModule
from stagetransfer.files import atomic_path
from stagetransfer.models import Backbone

Features = dict[str, NDArray[np.float32]]
BATCH = 64
PROBABILITIES = "probabilities"  # of the source's own classes, beside the blocks


def block_features(
    network: Backbone, data: DomainDataModule, folder: Path, positions: Sequence[int] | None = None
) -> Features:
    """Return the features (N, D) of each block for N training images, and `PROBABILITIES`.

    Args:
        folder: where they are kept.
        positions: those of the images in the training split; None: all of them.

    The output of a block is averaged over its positions: (N, C, H, W) to (N, C), and the tokens of
    a transformer likewise. The head's own output is left out. They are read from `folder` if these
    weights and these images have been seen before.
    """
    places = range(data.count("train")) if positions is None else positions
    rows = data.rows["train"][list(places)].tolist()
    shown = [data.fingerprint, rows, data.settings.fit, data.settings.crop, repr(data.stage)]
    digest = hashlib.sha256(repr(shown).encode())
    for name, tensor in network.state().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    file = folder / f"{digest.hexdigest()[:16]}.npz"
    try:
        with np.load(file) as kept:  # without pickle: only arrays
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass
    found = _compute(network, data, places)
    with atomic_path(file) as part, part.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **found)
    return found


@torch.no_grad()
def _compute(network: Backbone, data: DomainDataModule, places: Sequence[int]) -> Features:
    blocks = network.blocks[:-1]
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in (*blocks, PROBABILITIES)}
    with network.watched(blocks) as outputs:
        for begin in range(0, len(places), BATCH):
            images = data.inputs("train", places[begin : begin + BATCH])
            logits = network(images.contiguous(memory_format=torch.channels_last))
            parts[PROBABILITIES].append(logits.float().softmax(1).numpy())
            for block in blocks:
                parts[block].append(_pooled(outputs[block], len(images)).float().numpy())
    return {name: np.concatenate(of) for name, of in parts.items()}


def _pooled(output: Tensor, count: int) -> Tensor:
    if output.dim() == 4:  # channels are second, except in Swin's (N, H, W, C)
        last = output.shape[1] == output.shape[2] and output.shape[3] != output.shape[2]
        return output.mean((1, 2)) if last else output.mean((2, 3))
    return output.mean(1) if output.dim() == 3 else output.reshape(count, -1)
