"""The measures of one run on test images: map similarity, edge energy and features."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagetransfer.explain.backward_seed import is_class
from stagetransfer.explain.compared_runs import ComparedRuns
from stagetransfer.explain.edge_energy import edge_energy, edge_share_of_area
from stagetransfer.explain.saliency import SaliencyMethod
from stagetransfer.explain.similarity import linear_cka, rank_correlation, ssim
from stagetransfer.explain.weight_randomisation import cascading_randomisation
from stagetransfer.models import LAYERS, AlexNet
from stagetransfer.pipeline.restore import RestoredRun

Array = NDArray[np.float64]

TRAINED = "trained"
SIMILARITY_MEASURES = ("ssim_input", "rank_input", "ssim_trained", "rank_trained")
_BATCH = 64


@dataclass(frozen=True)
class RunMeasures:
    """The measures of a run on N images.

    `similarity` is (N,) by level and measure of `SIMILARITY_MEASURES`. A level is TRAINED or the
    first layer with random weights, from fc8 to conv1.
    """

    run: RestoredRun
    similarity: dict[str, dict[str, Array]]
    edges: Array  # (N,) shares of the maps' energy on edges of the images
    random_edges: Array  # the same for the network with random weights
    edge_area: Array  # (N,) shares of the images' pixels that are edges
    features: dict[str, Tensor]  # (N, N) by layer; see `compact_features`
    transfers: list[tuple[str, str, str, float]]  # stage before, stage after, layer, CKA


def measure_run(
    compared: ComparedRuns, run: RestoredRun, positions: NDArray[np.int64], method: SaliencyMethod
) -> RunMeasures:
    """Measure a run on the test images at these positions, in float32 as all saliency maps."""
    images, data = compared.inputs(run, positions), compared.data(run)
    plain = images * data.std + data.mean
    network = run.network()
    trained = current = method.maps(network, images)
    similarity = {TRAINED: _similarity(trained, trained, plain)}
    for layer, random in cascading_randomisation(network, torch.Generator().manual_seed(0)):
        if _is_passed(network, layer, method):
            current = method.maps(random, images)
        similarity[layer] = _similarity(current, trained, plain)
    features = compact_features(network, images)
    return RunMeasures(
        run=run,
        similarity=similarity,
        edges=edge_energy(trained, plain).numpy(),
        random_edges=edge_energy(current, plain).numpy(),
        edge_area=edge_share_of_area(plain).numpy(),
        features=features,
        transfers=_transfers(run, images, features),
    )


@torch.no_grad()
def compact_features(network: AlexNet, images: Tensor) -> dict[str, Tensor]:
    """Return the output of each layer (after its ReLU; fc8 has none) for N images, as (N, N).

    The features F (N, p) are replaced by R' from F' = Q R. Both have the same products
    F F' = R' R and therefore the same CKA, but R' is small where p is large. Layers with p <= N
    keep their features (N, p).
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
    """Return the CKA before and after each transfer, both networks given the target's images.

    A transfer is left out where the stage store no longer has one of the networks.
    """
    chain = run.config.chain
    sources = map(run.source_network, range(len(chain) - 1))
    features = [None if one is None else compact_features(one, images) for one in sources]
    return [
        (before, after, layer, linear_cka(a[layer], b[layer], unbiased=True))
        for (before, a), (after, b) in pairwise(zip(chain, [*features, last], strict=True))
        if a is not None and b is not None
        for layer in LAYERS
    ]


def _similarity(maps: Tensor, trained: Tensor, images: Tensor) -> dict[str, Array]:
    return {
        f"{name}_{reference}": measure(maps, other).numpy()
        for reference, other in (("input", images), ("trained", trained))
        for name, measure in (("ssim", ssim), ("rank", rank_correlation))
    }


def _is_passed(network: nn.Sequential, layer: str, method: SaliencyMethod) -> bool:
    """Return whether the way back passes `layer`; if not, its weights do not change the map."""
    names = [name for name, _ in network.named_children()]
    return is_class(method.seed) or names.index(layer) <= names.index(method.layer)
