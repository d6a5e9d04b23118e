"""How similar candidates are to networks that were trained on the target itself."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import torch

from stagetransfer.advise.block_features import Features
from stagetransfer.config.schema import Model
from stagetransfer.data import DomainDataModule
from stagetransfer.errors import UserError, cause
from stagetransfer.explain.similarity import linear_cka
from stagetransfer.models import Backbone
from stagetransfer.pipeline.restore import restore_runs
from stagetransfer.runs.run import Run
from stagetransfer.runs.training_shares import is_whole

MOST = 3  # networks of the target's own


def own_networks(
    finished: Sequence[Run], data: DomainDataModule, model: Model
) -> tuple[list[Backbone], list[str]]:
    """Return the target's own networks, and why some are left out.

    They are those of the runs from scratch that learned from all training images of this target,
    with the same test images. A network that was tuned from a candidate would resemble it.
    """
    tested = {str(data.samples.ids[row]) for row in data.rows["test"]}
    networks, left_out = list[Backbone](), list[str]()
    for run in sorted(finished, key=lambda one: one.seed):
        same = run.fingerprint == data.fingerprint and {*run.ids} == tested
        if not same or len(run.chain) > 1 or not is_whole(run) or not run.learned:
            continue
        try:
            (restored,) = restore_runs([run.folder])
            if restored.config.model == model and len(networks) < MOST:
                networks.append(restored.network())
        except UserError as error:
            left_out.append(f"no CKA to {run.name}: {cause(error)}")
    return networks, left_out


def cka_to_own(
    features: Mapping[str, Sequence[Features]], own: Sequence[Features], blocks: Sequence[str]
) -> dict[str, float]:
    """Return the mean CKA over the blocks, of each candidate by name; empty without own networks.

    CKA is linear and unbiased, of the pooled features of the same block and images (Kornblith et
    al. 2019). The networks of a candidate are compared with the own networks in turn. It tells how
    little a candidate would have to change, and not how good it would become.
    """

    def mean(found: Sequence[Features]) -> float:
        pairs = zip(found, cycle(own)) if len(found) >= len(own) else zip(cycle(found), own)
        values = [
            linear_cka(torch.from_numpy(a[block]), torch.from_numpy(b[block]))
            for a, b in pairs
            for block in blocks
        ]
        return float(np.mean([value for value in values if np.isfinite(value)] or [np.nan]))

    return {name: mean(found) for name, found in features.items()} if own else {}
