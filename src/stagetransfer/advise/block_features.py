"""What a network computes for training images, computed once and kept in a file.

The pooled features of every block, and the gradients that the score "feature utility" needs.
"""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stagetransfer.data import DomainDataModule
from stagetransfer.files import atomic_path
from stagetransfer.models import Backbone
from stagetransfer.statistics.transferability import triplet_gradient

Features = dict[str, NDArray[np.float32]]
BATCH = 64
GRADIENT_BATCHES = 4  # at most: a gradient takes twice as long as the features
PROBABILITIES = "probabilities"  # of the source's own classes, beside the blocks


def block_features(
    network: Backbone, data: DomainDataModule, folder: Path, positions: Sequence[int] | None = None
) -> Features:
    """Return the features (N, D) of each block for N training images, and `PROBABILITIES`.

    The features of a block are its `channel_means`. The head's own output is left out. `positions`
    are those of the images in the training split, or None for all. All is kept in `folder`.
    """
    places = range(data.count("train")) if positions is None else positions
    rows = data.rows["train"][list(places)].tolist()
    shown = [data.fingerprint, rows, data.settings.fit, data.settings.crop, repr(data.stage)]
    return _kept(network, shown, folder, lambda: _compute(network, data, places))


def gradient_norms(network: Backbone, data: DomainDataModule, folder: Path) -> Features:
    """Return the norms (B,) of the gradients of the network's "first" and "second" weights.

    They are those of `transferability.triplet_gradient`, of up to GRADIENT_BATCHES batches of
    random training images; see `transferability.feature_utility`. They are kept in `folder`.
    """
    order = np.random.default_rng(0).permutation(data.count("train"))[: BATCH * GRADIENT_BATCHES]
    shown = ["gradients", data.fingerprint, data.rows["train"][order].tolist(), repr(data.stage)]
    shown += [data.settings.fit, data.settings.crop]
    return _kept(network, shown, folder, lambda: _gradients(network, data, order))


def _kept(
    network: Backbone, shown: Sequence[object], folder: Path, compute: Callable[[], Features]
) -> Features:
    """Return the arrays that are kept for these weights and this input, or compute them."""
    digest = hashlib.sha256(repr(list(shown)).encode())
    for name, tensor in network.state().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    file = folder / f"{digest.hexdigest()[:16]}.npz"
    try:
        with np.load(file) as kept:  # without pickle: only arrays
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass
    found = compute()
    with atomic_path(file) as part, part.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **found)
    return found


@torch.no_grad()
def _compute(network: Backbone, data: DomainDataModule, places: Sequence[int]) -> Features:
    blocks = network.blocks[:-1]
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in (*blocks, PROBABILITIES)}
    with network.watched(blocks, network.channel_means) as outputs:
        for begin in range(0, len(places), BATCH):
            images = data.inputs("train", places[begin : begin + BATCH])
            logits = network(images.contiguous(memory_format=torch.channels_last))
            parts[PROBABILITIES].append(logits.float().softmax(1).numpy())
            for block in blocks:
                parts[block].append(outputs[block].float().numpy())
    return {name: np.concatenate(of) for name, of in parts.items()}


def _gradients(network: Backbone, data: DomainDataModule, order: NDArray[np.int64]) -> Features:
    layers = (one for one in network.net.modules() if isinstance(one, nn.Conv2d | nn.Linear))
    weights = [layer.weight for layer in islice(layers, 2)]
    labels = data.labels("train").numpy()
    norms = []
    for begin in range(0, len(order), BATCH):
        places = order[begin : begin + BATCH]
        if len(np.unique(labels[places])) < 2:
            continue
        embeddings, _ = network.embed(data.inputs("train", places.tolist()))
        gradient = triplet_gradient(embeddings.detach().numpy(), labels[places])
        found = torch.autograd.grad(embeddings, weights, torch.from_numpy(gradient).float())
        norms.append([float(one.norm()) for one in found])
    first, second = np.array(norms, np.float32).reshape(-1, 2).T
    return {"first": first, "second": second}
