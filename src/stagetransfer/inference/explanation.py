"""Why a window was called what it was: DeSaliNet's picture of the class, beside its control.

Guided pictures look much like their input whatever the weights are (Adebayo et al. 2018), so the
same network with random weights stands beside it: only what differs says something of this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from stagetransfer.explain import (
    desalinet,
    image_grid,
    input_to_rgb,
    randomised,
    saliency_to_rgb,
)
from stagetransfer.inference.calibrated_classifier import Judge
from stagetransfer.inference.read_slice import Opinion, Sheet
from stagetransfer.inference.window_labels import NOTICE


@dataclass(frozen=True)
class Reason:
    """Pictures (1, 3, S, S): the input, the class's score and pool5 taken back, and each as random
    weights have it."""

    image: Tensor
    score: Tensor
    features: Tensor
    score_random: Tensor
    features_random: Tensor


def reason(judge: Judge, window: Tensor, label: int) -> Reason:
    """Why `window` (1, 1 or 3, H, W) uint8 has its score of class `label`."""
    x = judge.inputs(window)
    random = randomised(judge.network, "conv1", torch.Generator().manual_seed(0))
    found = [
        desalinet(network, x, "fc8" if seed != "features" else "pool5", seed).cpu()
        for network in (judge.network, random)
        for seed in (("class", label), "features")
    ]
    return Reason(x.cpu(), found[0], found[1], found[2], found[3])


def explain(
    judge: Judge, sheet: Sheet, opinion: Opinion, wanted: tuple[float, float], index: int
) -> tuple[Figure, tuple[float, float]]:
    """The page on the window nearest to `wanted`, x and y in the slice's pixels, and its middle.

    Args:
        index: the slice's number, for the title.
    """
    nearest = int(((opinion.middles - wanted) ** 2).sum(axis=1).argmin())
    verdicts = opinion.verdicts
    label = int(verdicts.forced[nearest])
    name, said = judge.classes[label], judge.codes[verdicts.codes[nearest]]
    x, y = opinion.middles[nearest].tolist()
    mark = "" if said == name else f", marked {said}"
    p = verdicts.probabilities[nearest, label]
    title = f"slice {index}, x {x:g}, y {y:g}: {name}, p = {p:.2f}{mark}"
    found = reason(judge, sheet.pixels(nearest), label)
    return reason_page(found, judge, title, name), (x, y)


def reason_page(found: Reason, judge: Judge, title: str, name: str) -> Figure:
    """The pictures on one page; `name` of the class."""
    mean, std = (torch.tensor(0.0) + a.cpu() for a in (judge.mean, judge.std))
    row = [input_to_rgb(found.image, mean, std)[0]]
    pictures = (found.score, found.score_random, found.features, found.features_random)
    row += [np.asarray(saliency_to_rgb(picture)[0]) for picture in pictures]
    names = ["window", f"score of {name}", "random weights", "pool5", "random weights"]
    return image_grid(
        [row], row_names=[""], column_names=names, title=title, note=f"DeSaliNet; {NOTICE}"
    )
