"""The explanation of a window: saliency maps of its class, and the most similar training images.

Images of guided backpropagation and its kin look like their input whatever the weights are (Adebayo
et al. 2018). Therefore the same network with random weights is shown beside: only differences
between the two say something about the trained network. The five nearest training images, by the
features that mark windows as unlike the training data, are a reason that a physician can judge.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from stagetransfer.ct import Volume
from stagetransfer.errors import UserError
from stagetransfer.explain import image_grid, input_to_rgb, randomised, saliency_to_rgb
from stagetransfer.explain.saliency import METHODS, TITLES, default_method
from stagetransfer.inference.calibrated_classifier import CalibratedClassifier
from stagetransfer.inference.label_map import DISCLAIMER
from stagetransfer.inference.reference_features import Examples
from stagetransfer.inference.slice_prediction import SlicePrediction

SIMILAR = 5
"""The number of training images that are shown beside a window."""


def check_positions(positions: Iterable[tuple[float, float]], volumes: Sequence[Volume]) -> None:
    """Raise UserError if a position (x, y) in pixels lies on no slice of the series."""
    for x, y in positions:
        if volumes and not any(volume.holds(np.array([[x, y]])) for volume in volumes):
            sizes = {"{1} x {0}".format(*volume.shape) for volume in volumes}
            raise UserError(
                f"--reason {x:g},{y:g}: lies outside the slices of {' and '.join(sorted(sizes))} "
                "pixels, which are counted from 0. Give a position in the lungs"
            )


def explanation_figure(
    classifier: CalibratedClassifier,
    examples: Examples,
    prediction: SlicePrediction,
    number: int,
    at: Mapping[str, Any],
) -> tuple[Figure, pd.DataFrame]:
    """Explain the window of this number on the slice that `at` names.

    The table of `explained_figure` begins with the columns `at`, x and y (the window's centre).
    """
    predictions = prediction.predictions
    label = int(predictions.most_probable[number])
    name = classifier.classes[label]
    marked = classifier.label_names[predictions.codes[number]]
    x, y = prediction.centres[number].tolist()
    mark = "" if marked == name else f", marked {marked}"
    p = predictions.probabilities[number, label]
    title = f"slice {at['slice']}, x {x:g}, y {y:g}: {name}, p = {p:.2f}{mark}"
    window = prediction.prepared.window(number)
    figure, similar = explained_figure(classifier, examples, window, label, title)
    first = {**at, "x": x, "y": y}
    return figure, similar.assign(**first)[[*first, *similar]]


def explained_figure(
    classifier: CalibratedClassifier, examples: Examples, window: Tensor, label: int, title: str
) -> tuple[Figure, pd.DataFrame]:
    """Show a window (1, 1 or 3, H, W) uint8 beside the explanation of class `label`.

    The maps of its score and of the feature map are DeSaliNet's, or SaliNet's for a network with
    other activations than ReLU, computed in float32, whatever the precision of the run. The figure
    is returned with one row for each of the nearest training images: rank, label, distance, image.
    """
    inputs, network = classifier.inputs(window), classifier.network
    method = default_method(network, inputs)
    random = randomised(network)
    maps = [
        np.asarray(saliency_to_rgb(METHODS[method](one, inputs, start=start).cpu())[0])
        for start in (("class", label), "features")
        for one in (network, random)
    ]
    distances, numbers = classifier.nearest(window, SIMILAR)
    labels = [classifier.classes[examples.labels[number]] for number in numbers]
    side = inputs.shape[-1]
    similar = F.interpolate(examples.images[numbers].expand(-1, 3, -1, -1) / 255, side)
    score = f"score of {classifier.classes[label]}"
    figure = image_grid(
        [
            [input_to_rgb(inputs, classifier.mean.cpu(), classifier.std.cpu())[0], *maps],
            [np.asarray(one.permute(1, 2, 0), np.float64) for one in similar],
        ],
        row_names=["", "most similar\ntraining\nimages"],
        column_names=["window", score, "random weights", network.feature_map, "random weights"],
        title=title,
        note=f"{TITLES[method]}; class and distance of training images; {DISCLAIMER}",
    )
    gap, box = max(1, side // 16), {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for column, (one, distance) in enumerate(zip(labels, distances, strict=True)):
        x, y = (column + 0.5) * (side + gap) - gap / 2, 2 * side + gap / 2
        text = f"{one}  {distance:.1f}"
        figure.axes[0].text(x, y, text, fontsize=8, ha="center", va="bottom", bbox=box)
    ids = [examples.ids[number] for number in numbers]
    rank = range(1, len(numbers) + 1)
    return figure, pd.DataFrame(
        {"rank": rank, "label": labels, "distance": distances, "image": ids}
    )
