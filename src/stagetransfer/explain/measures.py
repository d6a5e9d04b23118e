"""One run's pictures as numbers, image by image: likeness, edges, features."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagetransfer.explain import (
    cascade,
    edge_energy,
    edge_share_of_area,
    linear_cka,
    rank_correlation,
    ssim,
)
from stagetransfer.explain.compared_runs import Study, View
from stagetransfer.explain.feature_seed import is_class
from stagetransfer.models import LAYERS, AlexNet
from stagetransfer.pipeline.restore import RestoredRun

Array = NDArray[np.float64]

TRAINED = "trained"
MEASURES = ("ssim_input", "rank_input", "ssim_trained", "rank_trained")
_BATCH = 64


@dataclass(frozen=True)
class Measured:
    """A run on N images.

    likeness: by level (TRAINED, then the layer from which on weights are random, fc8 ... conv1)
    and measure of MEASURES, (N,). edges: share of the picture's energy on edges, (N,); random_edges
    that of the network with random weights; area: share of the image that is edge. features: by
    layer, (N, N): as alike to each other as the features of that layer are. transfers: (from, to,
    layer, CKA) of each two neighbours in the chain.
    """

    run: RestoredRun
    likeness: dict[str, dict[str, Array]]
    edges: Array
    random_edges: Array
    area: Array
    features: dict[str, Tensor]
    transfers: list[tuple[str, str, str, float]]


def measure(study: Study, run: RestoredRun, positions: NDArray[np.int64], view: View) -> Measured:
    """Measures a run on the test images at these positions."""
    images = study.inputs(run, positions)
    data = study.data(run)
    plain = images * data.std + data.mean
    network = run.network()
    pictures = view.pictures(network, images)
    likeness = {TRAINED: _likeness(pictures, pictures, plain)}
    current = pictures
    for layer, randomised in cascade(network, torch.Generator().manual_seed(0)):
        if _reaches(network, layer, view):
            current = view.pictures(randomised, images)
        likeness[layer] = _likeness(current, pictures, plain)
    features = compact_features(network, images)
    return Measured(
        run=run,
        likeness=likeness,
        edges=edge_energy(pictures, plain).numpy(),
        random_edges=edge_energy(current, plain).numpy(),
        area=edge_share_of_area(plain).numpy(),
        features=features,
        transfers=_transfers(run, images, features),
    )


@torch.no_grad()
def compact_features(network: AlexNet, images: Tensor) -> dict[str, Tensor]:
    """The output of each layer (after its ReLU; fc8 has none) for N images, as (N, N).

    With F = (N, p) and F' = Q R, R' has the same products F F' = R' R as F, and so the same CKA
    with anything; p is up to a million.
    """
    parts: dict[str, list[Tensor]] = {layer: [] for layer in LAYERS}
    for batch in torch.split(images, _BATCH):
        x = batch
        for name, module in network.named_children():
            x = module(x)
            layer = LAYERS[int(name[4:]) - 1] if name.startswith("relu") else name
            if layer == "fc8" or isinstance(module, nn.ReLU):
                parts[layer].append(x.flatten(1))
    return {layer: _compact(torch.cat(rows)) for layer, rows in parts.items()}


def _compact(features: Tensor) -> Tensor:
    if features.shape[1] <= len(features):
        return features.double()
    triangle: Tensor = torch.linalg.qr(features.double().T, mode="r").R
    return triangle.T


def _transfers(
    run: RestoredRun, images: Tensor, last: dict[str, Tensor]
) -> list[tuple[str, str, str, float]]:
    """CKA before and after each transfer, both networks looking at the target's images."""
    chain = run.config.chain
    before: list[dict[str, Tensor] | None] = []
    for number in range(len(chain) - 1):
        network = run.source_network(number)
        before.append(None if network is None else compact_features(network, images))
    result = []
    for (source, a), (target, b) in pairwise(zip(chain, [*before, last], strict=True)):
        if a is not None and b is not None:
            result += [
                (source, target, layer, linear_cka(a[layer], b[layer], unbiased=True))
                for layer in LAYERS
            ]
    return result


def _likeness(pictures: Tensor, trained: Tensor, plain: Tensor) -> dict[str, Array]:
    return {
        "ssim_input": ssim(pictures, plain).numpy(),
        "rank_input": rank_correlation(pictures, plain).numpy(),
        "ssim_trained": ssim(pictures, trained).numpy(),
        "rank_trained": rank_correlation(pictures, trained).numpy(),
    }


def _reaches(network: nn.Sequential, layer: str, view: View) -> bool:
    """Whether the view's way to its layer passes `layer`: else its weights change no picture."""
    names = [name for name, _ in network.named_children()]
    return is_class(view.seed) or names.index(layer) <= names.index(view.layer)


def as_rows(measured: list[Measured]) -> list[dict[str, Any]]:
    """CKA of each transfer of each run, a row each."""
    return [
        {
            "condition": one.run.condition,
            "seed": one.run.seed,
            "before": source,
            "after": target,
            "layer": layer,
            "cka": value,
        }
        for one in measured
        for source, target, layer, value in one.transfers
    ]
