"""Pictures: the slice with its map and legend, and a patch with its probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from stagetransfer.figures import new_figure
from stagetransfer.inference.label_map import Map
from stagetransfer.inference.read_slice import Opinion
from stagetransfer.inference.window_labels import NOTICE, OUTSIDE

RGB = NDArray[np.float64]

# After Okabe & Ito 2008, without black and further apart, to be told when laid over grey.
_COLOURS = ("#e02000", "#f0e442", "#cc79a7", "#1f3fe0", "#30e8ff", "#ff8c00", "#009e53")
_MARKS = ("#ffffff", "#ff00ff")  # uncertain, unlike the training data
_STRENGTH = 0.5
_MARGIN = 12  # pixels around what is shown


def colours(classes: int) -> list[tuple[float, float, float]]:
    """Of the classes, then of the two marks."""
    if classes <= len(_COLOURS):
        return [to_rgb(name) for name in (*_COLOURS[:classes], *_MARKS)]
    spread = colormaps["hsv"](np.linspace(0, 1, classes, endpoint=False))
    return [*(to_rgb(colour) for colour in spread), *map(to_rgb, _MARKS)]


def blended(grey: NDArray[np.uint8], read: Map, classes: int) -> RGB:
    """(H, W, 3) in [0, 1]: the slice with the map's colours laid over it."""
    picture = np.repeat(grey[:, :, None] / 255, 3, axis=2)
    inside = read != OUTSIDE
    tint = np.array(colours(classes))[read[inside]]
    picture[inside] = (1 - _STRENGTH) * picture[inside] + _STRENGTH * tint
    return picture


def slice_page(
    opinion: Opinion,
    names: Sequence[str],
    shares: Mapping[str, float],
    title: str,
    truth: Map | None = None,
) -> Figure:
    """The slice, its map, the truth where it is known, and a legend with shares of the lung.

    Args:
        names: of the codes, the two marks last.
    """
    classes = len(names) - 2
    panels = [("slice", np.repeat(opinion.grey[:, :, None] / 255, 3, axis=2))]
    panels.append(("second opinion", blended(opinion.grey, opinion.read, classes)))
    if truth is not None:
        panels.append(("truth", blended(opinion.grey, truth, classes)))
    area = _shown(opinion)
    tall = (area[0].stop - area[0].start) / (area[1].stop - area[1].start)
    figure = new_figure(4.2 * len(panels) + 1.9, 4.2 * tall + 0.9)
    axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, picture) in zip(axes, panels, strict=True):
        axis.imshow(picture[area], interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    handles = [
        Patch(facecolor=colour, edgecolor="#444444", label=f"{name}  {100 * shares[name]:.1f} %")
        for name, colour in zip(names, colours(classes), strict=True)
    ]
    figure.legend(
        handles=handles, loc="outside right center", fontsize=8, frameon=False,
        title="of the lung", title_fontsize=8,
    )  # fmt: skip
    _say(figure, title)
    return figure


def patch_page(
    image: NDArray[np.uint8], names: Sequence[str], probabilities: NDArray[np.float64],
    said: str, title: str,
) -> Figure:  # fmt: skip
    """A patch (H, W) or (H, W, 3) beside its calibrated probabilities (C,)."""
    figure = new_figure(5.6, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    left.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    left.set_title(said, fontsize=9)
    left.axis("off")
    places = np.arange(len(names))
    right.barh(places, probabilities, color=colours(len(names))[: len(names)])
    right.set_yticks(places, names, fontsize=8)
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("calibrated probability", fontsize=8)
    right.tick_params(axis="x", labelsize=8)
    right.spines[["top", "right"]].set_visible(False)
    _say(figure, title)
    return figure


def _shown(opinion: Opinion) -> tuple[slice, slice]:
    """The lung's bounding box with a margin; the whole slice where there is no lung."""
    if not opinion.lung.any():
        return slice(0, opinion.lung.shape[0]), slice(0, opinion.lung.shape[1])
    sides = []
    for axis in (0, 1):
        filled = np.flatnonzero(opinion.lung.any(axis=1 - axis))
        stop = min(int(filled[-1]) + 1 + _MARGIN, opinion.lung.shape[axis])
        sides.append(slice(max(int(filled[0]) - _MARGIN, 0), stop))
    return sides[0], sides[1]


def _say(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(NOTICE, fontsize=8, color="#b00000")
