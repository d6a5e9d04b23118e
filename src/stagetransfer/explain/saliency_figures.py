"""Figures of saliency maps: Figure 6 of the paper, the randomisation cascade, strongest patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stagetransfer.explain.colour_scales import input_to_rgb, saliency_to_rgb
from stagetransfer.explain.compared_runs import ComparedRuns
from stagetransfer.explain.image_grids import Image, filter_panels, image_grid
from stagetransfer.explain.saliency import SaliencyMethod
from stagetransfer.explain.strongest_patches import strongest_patches
from stagetransfer.explain.weight_randomisation import cascading_randomisation, randomised
from stagetransfer.pipeline.restore import FinishedRun

Column = tuple[str, NDArray[np.float64]]
"""A column's name and its images (N, H, W, 3)."""


def figure6(
    compared: ComparedRuns,
    runs: Sequence[FinishedRun],
    rois: NDArray[np.int64],
    method: SaliencyMethod,
    scale: str,
) -> Figure:
    """Return Fig. 6 of Suzuki et al. 2018: one row per ROI, one column per run, and the control."""
    columns = [_input_column(compared, runs[0], rois)]
    several_seeds = len(runs) > len({run.condition for run in runs})
    for run in runs:
        name = f"{run.condition}\nseed {run.seed}" if several_seeds else run.condition
        maps = method.maps(run.network(), compared.inputs(run, rois))
        columns.append((name, saliency_to_rgb(maps, scale)))
    random = randomised(runs[-1].network(), "conv1", torch.Generator().manual_seed(0))
    maps = method.maps(random, compared.inputs(runs[-1], rois))
    columns.append(("random\nweights", saliency_to_rgb(maps, scale)))
    title = f"{method}, r = {runs[0].record['ratio']:g}"
    note = "last column: control, all layers of this network re-initialised"
    return _roi_grid(compared, rois, columns, title, note)


def cascade_figure(
    compared: ComparedRuns,
    run: FinishedRun,
    rois: NDArray[np.int64],
    method: SaliencyMethod,
    scale: str,
) -> Figure:
    """Return the cascading randomisation of Adebayo et al. 2018 for one run.

    One row per ROI, one column per level; the classifier's layers share one column.
    """
    images, network = compared.inputs(run, rois), run.network()
    columns = [_input_column(compared, run, rois)]
    columns.append(("trained", saliency_to_rgb(method.maps(network, images), scale)))
    for layer, random in cascading_randomisation(network, torch.Generator().manual_seed(0)):
        if layer not in ("fc8", "fc7"):
            maps = method.maps(random, images)
            columns.append((f"{layer}-fc8", saliency_to_rgb(maps, scale)))
    title = f"Control of {run.name}: {method}"
    note = "from the third column on: the layers named above have random weights"
    return _roi_grid(compared, rois, columns, title, note)


def filter_figure(runs: Sequence[FinishedRun]) -> Figure:
    """Return the filters of conv1 of each run."""
    weights = [run.network().get_parameter("conv1.weight") for run in runs]
    return filter_panels(weights, [run.name for run in runs])


def patch_figure(
    compared: ComparedRuns,
    run: FinishedRun,
    positions: NDArray[np.int64],
    layer: str,
    scale: str,
) -> Figure:
    """Return the strongest patches of a layer's strongest channels, each above its map."""
    data = compared.data(run)
    found = strongest_patches(run.network(), compared.inputs(run, positions), layer)
    rows: list[list[Image]] = []
    names: list[str] = []
    for channel, inputs, maps in zip(
        found.channels.tolist(), found.inputs, found.maps, strict=True
    ):
        rows.append(list(input_to_rgb(inputs, data.mean, data.std)))
        rows.append(list(saliency_to_rgb(maps, scale)))
        names += [f"channel {channel}", ""]
    _, count, _, _, side = found.inputs.shape
    return image_grid(
        rows,
        row_names=names,
        column_names=[str(number) for number in range(1, count + 1)],
        title=f"Strongest patches of {layer}, {run.name}",
        note=f"receptive field: {side} x {side} pixels of the {data.input_size} pixel input",
    )


def _input_column(compared: ComparedRuns, run: FinishedRun, rois: NDArray[np.int64]) -> Column:
    data = compared.data(run)
    return "input", input_to_rgb(compared.inputs(run, rois), data.mean, data.std)


def _roi_grid(
    compared: ComparedRuns, rois: NDArray[np.int64], columns: list[Column], title: str, note: str
) -> Figure:
    names, images = zip(*columns, strict=True)
    return image_grid(
        [list(row) for row in zip(*images, strict=True)],
        row_names=[compared.classes[label] for label in compared.labels[rois]],
        column_names=names,
        title=title,
        note=note,
    )
