"""Figures of predictions: a slice with its label map and legend, a patch with its probabilities.

The colours of seven classes and of both marks differ upon any grey by CIEDE2000 of at least 12,
also without the red or the green cone, and by 8 without the blue one (Machado, Oliveira, Fernandes
2009, IEEE TVCG 15(6)). A random search found them. "Unlike" is also striped.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.ct.roi_patches import PatchSettings
from stagetransfer.ct.volume import Spacing, Volume
from stagetransfer.figures import new_figure
from stagetransfer.inference.label_map import DISCLAIMER, OUTSIDE, LabelMap
from stagetransfer.inference.slice_prediction import SlicePrediction

RGB = NDArray[np.float64]
Colour = tuple[float, float, float]

_CLASS_COLOURS = ("#6e0000", "#fffc00", "#ffb984", "#760dff", "#00c8ff", "#e22f00", "#90596d")
_MARK_COLOURS = ("#ffffff", "#400040")  # uncertain, unlike the training data
NOT_READ_COLOUR = to_rgb("#808080")
_OPACITY = 0.5
_STRIPE = 3  # pixels, width of the stripes of "unlike the training data"
_MARGIN = 12  # pixels around the lungs
_EDGED = [withStroke(linewidth=2.5, foreground="black")]  # visible on black and on white
_TEXT: dict[str, Any] = {
    "color": "white", "fontsize": 9, "ha": "center", "va": "center", "path_effects": _EDGED,
}  # fmt: skip
_PLACES = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03))  # of the letters of the sides
_OPPOSITE = dict(zip("RLAPHF", "LRPAFH", strict=True))


def slice_caption(
    volume: Volume, index: int, patches: PatchSettings, columns: float
) -> tuple[str, str]:
    """Return what a reader of slice `index` must know, and the letters of the picture's sides.

    Its windows are `columns` pixels wide. The sides are left, right, top and bottom; "" if unknown.
    """
    where = [f"slice {index}"]
    if volume.instances and volume.instances[index] is not None:
        where.insert(0, f"InstanceNumber {volume.instances[index]}")
    sides = ""
    if volume.geometry is not None:
        where.append(f"position {volume.geometry.heights[index]:.1f} mm")
        right, down = list(volume.geometry.orientation[:2])
        sides = _OPPOSITE[right] + right + _OPPOSITE[down] + down
    read = f"grey window {patches.level:g}/{patches.width:g} HU"
    if volume.spacing is not None:
        read += f"; windows (dashed) {columns * volume.spacing[1]:.1f} mm wide"
    unknown = "" if sides else "; left and right unknown"
    return f"{', '.join(where)}; {read}{unknown}", sides


def label_colours(classes: int) -> list[Colour]:
    """Return the colours of the classes, then of the two marks; "not read" has none."""
    colours: Iterable[Any] = _CLASS_COLOURS[:classes]
    if classes > len(_CLASS_COLOURS):
        colours = colormaps["hsv"](np.linspace(0, 1, classes, endpoint=False))
    return [to_rgb(colour) for colour in (*colours, *_MARK_COLOURS)]


def overlay(grey: NDArray[np.uint8], labels: LabelMap, colours: Sequence[Colour]) -> RGB:
    """Return (H, W, 3) in [0, 1]: the slice, blended with the colours of the label map.

    Pixels that were not read stay grey, as do those between the stripes of the last colour, "unlike
    the training data".
    """
    image = np.repeat(grey[:, :, None] / 255, 3, axis=2)
    rows, columns = np.indices(labels.shape)
    inside = (labels != OUTSIDE) & (labels < len(colours))
    inside &= (labels < len(colours) - 1) | ((rows + columns) // _STRIPE % 2 == 0)
    image[inside] = blend(np.array(colours)[labels[inside]], image[inside])
    return image


def blend(colours: RGB, grey: RGB | float) -> RGB:
    """Return colours (..., 3) as they look upon grey values in [0, 1]."""
    return (1 - _OPACITY) * grey + _OPACITY * colours


def slice_figure(
    prediction: SlicePrediction, shares: Mapping[str, float], volume: Volume, index: int,
    patches: PatchSettings, title: str, truth: LabelMap | None,
) -> Figure:  # fmt: skip
    """Draw slice `index`, its label map, the truth if known, and a legend with shares of the lung.

    `shares` are those of `label_shares`; the last is that of "not read". The legend's
    colours are those of the map upon the lung's mean grey.
    """
    colours = label_colours(len(shares) - 3)
    grey, spacing, window = prediction.grey, volume.spacing, prediction.window
    caption, sides = slice_caption(volume, index, patches, window[1])
    panels = {
        "slice": np.repeat(grey[:, :, None] / 255, 3, axis=2),
        "prediction": overlay(grey, prediction.labels, colours),
    }
    if truth is not None:
        panels["truth"] = overlay(grey, truth, colours)
    area = _lung_area(prediction.lung)
    height, width = (side.stop - side.start for side in area)
    aspect = height / width * (spacing[0] / spacing[1] if spacing else 1)
    figure = new_figure(4.2 * len(panels) + 1.9, 4.2 * aspect + 1.1)
    axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, image) in zip(axes, panels.items(), strict=True):
        axis.imshow(image[area], interpolation="nearest", aspect=aspect * width / height)
        axis.set_title(name, fontsize=9)
        outline = axis.contour(prediction.lung[area], [0.5], colors="white", linewidths=0.8)
        outline.set(path_effects=_EDGED)
        axis.axis("off")
        for letter, (x, y) in zip(sides, _PLACES, strict=False):
            axis.text(x, y, letter, transform=axis.transAxes, **_TEXT)
    _add_scale(axes[0], window, spacing, (height, width))
    shade = grey[prediction.lung].mean() / 255 if prediction.lung.any() else 0.5
    fills = [tuple(blend(np.array(colour), shade)) for colour in [*colours, NOT_READ_COLOUR]]
    handles = [
        Patch(facecolor=fill, edgecolor="#444444", label=f"{name}  {100 * share:.1f} %")
        for (name, share), fill in zip(shares.items(), fills, strict=True)
    ]
    handles[-2].set_hatch("////")
    handles[-2].set_facecolor(NOT_READ_COLOUR)
    handles[-2].set_edgecolor(fills[-2])
    handles[-1].set_label(f"{handles[-1].get_label()} of the lung")
    figure.legend(
        handles=handles, loc="outside right center", fontsize=8, frameon=False,
        title="of the lung read (outline)", title_fontsize=8,
    )  # fmt: skip
    _add_title(figure, title, f"{caption}\n{DISCLAIMER}")
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


def _add_scale(
    axis: Axes, window: tuple[float, float], spacing: Spacing, shape: tuple[int, int]
) -> None:
    """Draw the size of a window at the upper left, and a bar of 50 or 10 mm at the lower left."""
    rows, columns = window
    corner = (0.02 * shape[1], 0.02 * shape[0])
    style: dict[str, Any] = {"edgecolor": "white", "linestyle": "--", "path_effects": _EDGED}
    axis.add_patch(Rectangle(corner, columns, rows, fill=False, **style))
    if spacing is None:
        return
    length = 50 if shape[1] * spacing[1] > 120 else 10
    x, y = 0.03 * shape[1], 0.95 * shape[0]
    ends = [x, x + length / spacing[1]]
    edge = [withStroke(linewidth=4, foreground="black")]
    axis.plot(ends, [y, y], color="white", linewidth=2, path_effects=edge)
    axis.text(x, y - 0.03 * shape[0], f"{length} mm", **(_TEXT | {"ha": "left"}))


def _add_title(figure: Figure, title: str, note: str = DISCLAIMER) -> None:
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(note, fontsize=8, color="#b00000")
