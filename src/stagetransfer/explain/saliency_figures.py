"""Figures of saliency maps: Figure 6 of the paper, the randomisation cascade, strongest patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from stagetransfer.explain.compared_runs import ComparedRuns
from stagetransfer.explain.image_grids import (
    FILTER_COLUMNS,
    Image,
    first_filters,
    image_grid,
    input_to_rgb,
    saliency_to_rgb,
    tiled_filters,
)
from stagetransfer.explain.saliency import TITLES, SaliencyMethod
from stagetransfer.explain.strongest_patches import strongest_patches
from stagetransfer.explain.weight_randomisation import cascading_randomisation, randomised
from stagetransfer.figures import new_figure
from stagetransfer.pipeline.restore import RestoredRun
from stagetransfer.runs.reader import read_runs

Column = tuple[str, NDArray[np.float64]]
"""A column's name and its images (N, H, W, 3)."""


@dataclass(frozen=True)
class SaliencyFigures:
    """Figures of the saliency maps of compared runs, in one of the colour `SCALES`.

    `rois` are the positions of the shown images in the test set; each is one row of a figure.
    """

    compared: ComparedRuns
    rois: NDArray[np.int64]
    method: SaliencyMethod
    scale: str

    def figure6(self, runs: Sequence[RestoredRun]) -> Figure:
        """Return Fig. 6 of Suzuki et al. 2018: one column per run, and the control."""
        several_seeds = len(runs) > len({run.condition for run in runs})
        columns = [self._inputs(runs[0])]
        for run in runs:
            name = f"{run.condition}\nseed {run.seed}" if several_seeds else run.condition
            if not read_runs([run.folder])[0][0].learned:
                name += "\ndid not learn"
            columns.append((name, self._maps(run, run.network())))
        random = randomised(runs[-1].network())
        columns.append(("random\nweights", self._maps(runs[-1], random)))
        title = f"{self.method}, r = {runs[0].record['ratio']:g}"
        note = "last column: control, all blocks of this network re-initialised"
        return self._grid(columns, title, note)

    def cascade(self, run: RestoredRun) -> Figure:
        """Return the cascading randomisation of Adebayo et al. 2018: one column per level, the
        classifier in that of the block before."""
        network = run.network()
        columns = [self._inputs(run), ("trained", self._maps(run, network))]
        for block, random in cascading_randomisation(network):
            if block not in network.classifier:
                columns.append((f"from\n{block}", self._maps(run, random)))
        title = f"Control of {run.name}: {self.method}"
        note = (
            "from the third column on: the block named above and all later ones have random weights"
        )
        return self._grid(columns, title, note)

    def patches(self, run: RestoredRun, positions: NDArray[np.int64], layer: str) -> Figure:
        """Return a layer's strongest patches in the test images at `positions`, each above its
        map."""
        data = self.compared.data(run)
        found = strongest_patches(run.network(), self.compared.inputs(run, positions), layer)
        rows: list[list[Image]] = []
        for inputs, maps in zip(found.inputs, found.maps, strict=True):
            rows.append(list(input_to_rgb(inputs, data.mean, data.std)))
            rows.append(list(saliency_to_rgb(maps, self.scale)))
        _, count, _, _, side = found.inputs.shape
        return image_grid(
            rows,
            row_names=[text for n in found.channels for text in (f"channel {n}", "")],
            column_names=[str(number) for number in range(1, count + 1)],
            title=f"Strongest patches of {layer}, {run.name}",
            note=f"{TITLES[found.method]}; receptive field: {side} pixels, input: "
            f"{data.stage.input_size} pixels",
        )

    def _inputs(self, run: RestoredRun) -> Column:
        data = self.compared.data(run)
        return "input", input_to_rgb(self.compared.inputs(run, self.rois), data.mean, data.std)

    def _maps(self, run: RestoredRun, network: nn.Module) -> NDArray[np.float64]:
        maps = self.method.maps(network, self.compared.inputs(run, self.rois))
        return saliency_to_rgb(maps, self.scale)

    def _grid(self, columns: Sequence[Column], title: str, note: str) -> Figure:
        names, images = zip(*columns, strict=True)
        return image_grid(
            [list(row) for row in zip(*images, strict=True)],
            row_names=[self.compared.classes[label] for label in self.compared.labels[self.rois]],
            column_names=names,
            title=title,
            note=note,
        )


def filter_figure(runs: Sequence[RestoredRun]) -> Figure:
    """Return the filters of the first convolution of each run, one panel each."""
    filters = [first_filters(run.network()) for run in runs]
    tallest = -(-max(len(weight) for _, weight in filters) // FILTER_COLUMNS)
    figure = new_figure(2.9 * len(runs), 2.9 * tallest / FILTER_COLUMNS + 0.5)
    axes = figure.subplots(1, len(runs), squeeze=False)[0]
    for axis, (_, weight), run in zip(axes, filters, runs, strict=True):
        axis.imshow(tiled_filters(weight), interpolation="nearest")
        axis.set_title(run.name, fontsize=8)
        axis.axis("off")
    figure.suptitle(f"Filters of {filters[0][0]}, each scaled by its own maximum", fontsize=10)
    return figure
