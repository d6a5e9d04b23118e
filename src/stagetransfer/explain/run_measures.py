"""The measures of one run on test images: map similarity, edge energy and features."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagetransfer.explain.compared_runs import ComparedRuns
from stagetransfer.explain.edge_energy import edge_energy, edges
from stagetransfer.explain.saliency import SaliencyMethod
from stagetransfer.explain.similarity import centred_ranks, linear_cka, ssim
from stagetransfer.explain.weight_randomisation import cascading_randomisation
from stagetransfer.models import Backbone
from stagetransfer.pipeline.restore import RestoredRun

Array = NDArray[np.float64]

TRAINED = "trained"
SIMILARITY_MEASURES = ("ssim_input", "rank_input", "ssim_trained", "rank_trained")
_BATCH = 64


@dataclass(frozen=True)
class RunMeasures:
    """The measures of a run on N images.

    `similarity` is (N,) by level and measure of `SIMILARITY_MEASURES`. A level is TRAINED or the
    first block with random weights, from the head to the first block.
    """

    run: RestoredRun
    similarity: dict[str, dict[str, Array]]
    edges: Array  # (N,) shares of the maps' energy on edges of the images
    random_edges: Array  # the same for the network with random weights
    edge_area: Array  # (N,) shares of the images' pixels that are edges
    features: dict[str, Tensor]  # (N, N or less) by block; see `compact_features`
    transfers: list[tuple[str, str, str, float]]  # stage before, stage after, block, CKA


def measure_run(
    compared: ComparedRuns, run: RestoredRun, positions: NDArray[np.int64], method: SaliencyMethod
) -> RunMeasures:
    """Measure a run on the test images at these positions, in float32 as all saliency maps."""
    images, data = compared.inputs(run, positions), compared.data(run)
    plain = images * data.std + data.mean
    network = run.network()
    trained = current = method.maps(network, images)
    references = {
        name: (values, centred_ranks(values))
        for name, values in (("input", plain), ("trained", trained))
    }

    def compare(maps: Tensor) -> dict[str, Array]:
        measures, ranks = dict[str, Array](), centred_ranks(maps)
        for name, (values, other) in references.items():
            measures[f"ssim_{name}"] = ssim(maps, values).numpy()
            measures[f"rank_{name}"] = (ranks * other).sum(1).numpy()
        return measures

    similarity = {TRAINED: compare(trained)}
    level, first = TRAINED, method.maps(network, images[:1])
    for block, random in cascading_randomisation(network):
        # Blocks after the layer change no map. One image shows it, unless nothing reaches it.
        before, first = first, method.maps(random, images[:1])
        if not first.any() or not torch.equal(first, before):
            current, level = method.maps(random, images), block
            similarity[block] = compare(current)
        else:
            similarity[block] = similarity[level]
    features = compact_features(network, images)
    return RunMeasures(
        run=run,
        similarity=similarity,
        edges=edge_energy(trained, plain).numpy(),
        random_edges=edge_energy(current, plain).numpy(),
        edge_area=edges(plain).double().mean((1, 2)).numpy(),
        features=features,
        transfers=_transfers(run, images, features),
    )


@torch.no_grad()
def compact_features(network: Backbone, images: Tensor) -> dict[str, Tensor]:
    """Return the output of each block for N images, as (N, N).

    The features F (N, p) are replaced by R' from F' = Q R. Both have the same products
    F F' = R' R and therefore the same CKA, but R' is small where p is large. Blocks with p <= N
    keep their features (N, p). Where these are equal for all images, one of them is kept, because
    R' would differ by rounding errors, of which a CKA could be computed.
    """
    parts: dict[str, list[Tensor]] = {block: [] for block in network.blocks}
    with network.watched() as outputs:
        for batch in torch.split(images, _BATCH):
            network(batch)
            for block, rows in parts.items():
                rows.append(outputs[block].flatten(1))
    compact = {}
    for block in network.blocks:
        features = torch.cat(parts.pop(block)).double()
        if (features == features[:1]).all():
            features = features[:, :1]
        elif features.shape[1] > len(features):
            features = torch.linalg.qr(features.T, mode="r").R.T
        compact[block] = features
    return compact


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
        (before, after, block, linear_cka(a[block], b[block]))
        for (before, a), (after, b) in pairwise(zip(chain, [*features, last], strict=True))
        if a is not None and b is not None
        for block in last
    ]
