"""Masks from the user, slice by slice: the lungs, and the true classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct import Annotations, LabelTable, Point, Problems, Raster, Volume
from stagetransfer.ct.mask_annotations import MaskAnnotations
from stagetransfer.errors import UserError
from stagetransfer.inference.label_map import OUTSIDE, LabelMap


def open_lung_masks(
    path: Path, values: Sequence[str], volumes: Sequence[Volume], problems: Problems
) -> Annotations:
    """Open the lung masks in PNG, NIfTI or DICOM SEG.

    The given values are lung, or every value except 0 if none is given.
    """
    names = dict.fromkeys(values, "lung") | {"*": "" if values else "lung"}
    return MaskAnnotations(path, volumes, LabelTable(names), problems)


def lung_by_slice(
    annotations: Annotations, number: int, volume: Volume, problems: Problems
) -> Callable[[int], NDArray[np.bool_]]:
    """Return a function from the number of a slice to its lung mask (H, W)."""
    found: dict[int, NDArray[np.bool_]] = {}
    for region in annotations.regions_of(number):
        if isinstance(region.shape, Point):
            raise UserError(f"{region.where}: a point. --mask accepts masks and outlines")
        mask = Raster(volume.shape).draw(region.shape)
        found[region.index] = found.get(region.index, False) | mask
    if not found:
        text = "no pixel of the mask is lung. Correct --mask, or --mask-values"
        problems.add("series without lung in --mask", volume.where, text)
    return lambda index: found.get(index, np.zeros(volume.shape, np.bool_))


def truth_by_slice(
    annotations: Annotations,
    number: int,
    volume: Volume,
    classes: Sequence[str],
    problems: Problems,
) -> dict[int, LabelMap]:
    """Return the true codes (H, W) of each labelled slice; `OUTSIDE` where the class is unknown."""
    found: dict[int, LabelMap] = {}
    for region in annotations.regions_of(number):
        if region.label not in classes:
            text = f"label {region.label!r} is not one of the run's classes {', '.join(classes)}"
            problems.add("annotations of another class", region.where, text)
            continue
        if isinstance(region.shape, Point):
            raise UserError(f"{region.where}: a point. --truth accepts masks, boxes and polygons")
        labels = found.setdefault(region.index, np.full(volume.shape, OUTSIDE, np.int16))
        labels[Raster(volume.shape).draw(region.shape)] = classes.index(region.label)
    return found
