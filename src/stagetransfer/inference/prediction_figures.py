"""Figures of predictions: a slice with its label map and legend, a patch with its probabilities."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.figures import new_figure
from stagetransfer.inference.label_map import DISCLAIMER, OUTSIDE, LabelMap
from stagetransfer.inference.slice_prediction import SlicePrediction

RGB = NDArray[np.float64]
Colour = tuple[float, float, float]

# After Okabe & Ito 2008, without black and further apart, because they are blended with grey.
_CLASS_COLOURS = ("#e02000", "#f0e442", "#cc79a7", "#1f3fe0", "#30e8ff", "#ff8c00", "#009e53")
_MARK_COLOURS = ("#ffffff", "#ff00ff")  # uncertain, unlike the training data
_OPACITY = 0.5
_MARGIN = 12  # pixels around the lungs


def label_colours(classes: int) -> list[Colour]:
    """Return the colours of the classes, then of the two marks; "not read" has none."""
    colours: Iterable[Any] = _CLASS_COLOURS[:classes]
    if classes > len(_CLASS_COLOURS):
        colours = colormaps["hsv"](np.linspace(0, 1, classes, endpoint=False))
    return [to_rgb(colour) for colour in (*colours, *_MARK_COLOURS)]


def overlay(grey: NDArray[np.uint8], labels: LabelMap, colours: Sequence[Colour]) -> RGB:
    """Return (H, W, 3) in [0, 1]: the slice, blended with the colours of the label map.

    Pixels that were not read stay grey.
    """
    image = np.repeat(grey[:, :, None] / 255, 3, axis=2)
    inside = (labels != OUTSIDE) & (labels < len(colours))
    image[inside] = (1 - _OPACITY) * image[inside] + _OPACITY * np.array(colours)[labels[inside]]
    return image


def slice_figure(
    prediction: SlicePrediction, shares: Mapping[str, float], title: str, truth: LabelMap | None
) -> Figure:
    """Draw the slice, its label map, the truth if known, and a legend with shares of the lung.

    `shares` are those of `label_shares`; the last is that of "not read".
    """
    colours = label_colours(len(shares) - 3)
    grey = prediction.grey
    panels = {
        "slice": np.repeat(grey[:, :, None] / 255, 3, axis=2),
        "prediction": overlay(grey, prediction.labels, colours),
    }
    if truth is not None:
        panels["truth"] = overlay(grey, truth, colours)
    area = _lung_area(prediction.lung)
    aspect = (area[0].stop - area[0].start) / (area[1].stop - area[1].start)
    figure = new_figure(4.2 * len(panels) + 1.9, 4.2 * aspect + 0.9)
    axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, image) in zip(axes, panels.items(), strict=True):
        axis.imshow(image[area], interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.contour(prediction.lung[area], [0.5], colors="white", linewidths=0.6)
        axis.axis("off")
    fills: list[Colour | str] = [*colours, "#808080"]
    handles = [
        Patch(facecolor=fill, edgecolor="#444444", label=f"{name}  {100 * share:.1f} %")
        for (name, share), fill in zip(shares.items(), fills, strict=True)
    ]
    handles[-1].set_label(f"{handles[-1].get_label()} of the lung")
    figure.legend(
        handles=handles, loc="outside right center", fontsize=8, frameon=False,
        title="of the lung read (outline)", title_fontsize=8,
    )  # fmt: skip
    _add_title(figure, title)
    return figure


def patch_figure(
    image: NDArray[np.uint8], names: Sequence[str], probabilities: NDArray[np.float64],
    label: str, title: str,
) -> Figure:  # fmt: skip
    """Draw a patch (H, W) or (H, W, 3) beside its calibrated probabilities (C,)."""
    figure = new_figure(5.6, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    left.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    left.set_title(label, fontsize=9)
    left.axis("off")
    rows = np.arange(len(names))
    right.barh(rows, probabilities, color=label_colours(len(names))[: len(names)])
    right.set_yticks(rows, names, fontsize=8)
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("calibrated probability", fontsize=8)
    right.tick_params(axis="x", labelsize=8)
    right.spines[["top", "right"]].set_visible(False)
    _add_title(figure, title)
    return figure


def _lung_area(lung: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the lungs' bounding box with a margin; the whole slice if there is no lung."""
    boxes = ndimage.find_objects(lung.astype(np.int8)) or [tuple(slice(0, n) for n in lung.shape)]
    rows, columns = (
        slice(max(side.start - _MARGIN, 0), min(side.stop + _MARGIN, length))
        for side, length in zip(boxes[0], lung.shape, strict=True)
    )
    return rows, columns


def _add_title(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(DISCLAIMER, fontsize=8, color="#b00000")
