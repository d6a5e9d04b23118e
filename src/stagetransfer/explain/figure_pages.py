"""The pages of pictures: Figure 6, the cascade beside it, conv1's filters, strongest patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stagetransfer.explain import cascade, randomised
from stagetransfer.explain.colour_scales import coloured, plain
from stagetransfer.explain.compared_runs import Study, View
from stagetransfer.explain.image_grids import Image, filters, image_grid
from stagetransfer.explain.strongest_patches import strongest_patches
from stagetransfer.pipeline.restore import FinishedRun

_CONTROL = "control: all layers of a picture's network drawn anew"


def figure6(
    study: Study, runs: Sequence[FinishedRun], rois: NDArray[np.int64], view: View, scale: str
) -> Figure:
    """Suzuki et al. 2018, Fig. 6: an ROI a row; the input, a column a run, and the control."""
    columns: list[tuple[str, NDArray[np.float64]]] = [("input", _inputs(study, runs[0], rois))]
    several = len(runs) > len({run.condition for run in runs})
    for run in runs:
        name = f"{run.condition}\nseed {run.seed}" if several else run.condition
        pictures = view.pictures(run.network(), study.inputs(run, rois))
        columns.append((name, coloured(pictures, scale)))
    last = runs[-1]
    control = randomised(last.network(), "conv1", torch.Generator().manual_seed(0))
    pictures = view.pictures(control, study.inputs(last, rois))
    columns.append(("random\nweights", coloured(pictures, scale)))
    return image_grid(
        _by_row([images for _, images in columns]),
        row_names=[study.classes[label] for label in study.labels[rois]],
        column_names=[name for name, _ in columns],
        title=f"{_said(view)}, r = {runs[0].record['ratio']:g}",
        note=f"last column: {_CONTROL}",
    )


def control(
    study: Study, run: FinishedRun, rois: NDArray[np.int64], view: View, scale: str
) -> Figure:
    """The cascade of Adebayo et al. 2018 for one run: from which layer on weights are random.

    The classifier's layers come in one column.
    """
    images = study.inputs(run, rois)
    network = run.network()
    columns = [("input", _inputs(study, run, rois))]
    columns.append(("trained", coloured(view.pictures(network, images), scale)))
    for layer, changed in cascade(network, torch.Generator().manual_seed(0)):
        if layer in ("fc8", "fc7"):
            continue
        name = "fc6-fc8" if layer == "fc6" else f"{layer}-fc8"
        columns.append((name, coloured(view.pictures(changed, images), scale)))
    return image_grid(
        _by_row([images for _, images in columns]),
        row_names=[study.classes[label] for label in study.labels[rois]],
        column_names=[name for name, _ in columns],
        title=f"Control of {run.name}: {_said(view)}",
        note="from the third column on: these layers have random weights",
    )


def first_filters(runs: Sequence[FinishedRun]) -> Figure:
    """The filters of conv1 of each run."""
    weights = [run.network().get_parameter("conv1.weight") for run in runs]
    return filters(weights, [run.name for run in runs])


def patches(
    study: Study, run: FinishedRun, positions: NDArray[np.int64], layer: str, scale: str
) -> Figure:
    """The strongest patches of a layer's strongest channels, DeSaliNet's picture below each."""
    data = study.data(run)
    found = strongest_patches(run.network(), study.inputs(run, positions), layer)
    rows: list[list[Image]] = []
    names: list[str] = []
    for k, channel in enumerate(found.channels.tolist()):
        rows.append(list(plain(found.inputs[k], data.mean, data.std)))
        rows.append(list(coloured(found.pictures[k], scale)))
        names += [f"channel {channel}", ""]
    side = found.inputs.shape[-1]
    return image_grid(
        rows,
        row_names=names,
        column_names=[str(number + 1) for number in range(found.inputs.shape[1])],
        title=f"Strongest patches of {layer}, {run.name}",
        note=f"receptive field {side} x {side} pixels of the {data.stage.input_size} pixel input",
    )


def _inputs(study: Study, run: FinishedRun, rois: NDArray[np.int64]) -> NDArray[np.float64]:
    data = study.data(run)
    return plain(study.inputs(run, rois), data.mean, data.std)


def _by_row(columns: Sequence[NDArray[np.float64]]) -> list[list[Image]]:
    return [list(row) for row in zip(*columns, strict=True)]


def _said(view: View) -> str:
    names = {"desalinet": "DeSaliNet", "deconvnet": "DeconvNet", "salinet": "SaliNet"}
    what = "all features" if view.seed == "features" else f"{view.seed}"
    return f"{names[view.method]} of {view.layer} ({what})"
