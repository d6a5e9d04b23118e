"""Masks from the user, slice by slice: the lungs, and the true classes."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from stagetransfer.ct import Annotations, Point, Problems, Raster, Volume
from stagetransfer.ct.roi_patches import Mask
from stagetransfer.errors import UserError
from stagetransfer.inference.label_map import OUTSIDE, LabelMap


def lung_by_slice(
    annotations: Annotations, number: int, volume: Volume, unseen: set[str], problems: Problems
) -> Callable[[int], Mask]:
    """Return a function from the number of a slice to its lung mask (H, W).

    The values of lung that occur are removed from `unseen`.
    """
    found: dict[int, Mask] = {}
    for region in annotations.regions_of(number):
        unseen.discard(region.label)
        if isinstance(region.shape, Point):
            raise UserError(f"{region.where}: a point. --mask accepts masks and outlines")
        mask = Raster(volume.shape).draw(region.shape)
        found[region.index] = found.get(region.index, False) | mask
    if not found:
        text = "no pixel of the mask is lung. Correct --mask, or --mask-values"
        problems.add("series without lung in --mask", volume.where, text)
    return lambda index: found.get(index, np.zeros(volume.shape, np.bool_))


def check_values(unseen: Collection[str], path: Path, problems: Problems) -> None:
    """Record the values of lung that occur in no mask of the series that are read."""
    for value in sorted(unseen):
        text = f"{value} occurs in no mask of {path}. Correct it, or leave it out"
        problems.add("values of --mask-values in no mask", "--mask-values", text)


def truth_by_slice(
    annotations: Annotations,
    number: int,
    volume: Volume,
    classes: Sequence[str],
    problems: Problems,
) -> dict[int, LabelMap]:
    """Return the true codes (H, W) of each labelled slice; `OUTSIDE` where the class is unknown.

    Pixels of two classes are a problem, and their class is unknown.
    """
    found: dict[int, LabelMap] = {}
    doubled: dict[int, Mask] = {}
    for region in annotations.regions_of(number):
        if region.label not in classes:
            text = f"label {region.label!r} is not one of the run's classes {', '.join(classes)}"
            problems.add("annotations of another class", region.where, text)
            continue
        if isinstance(region.shape, Point):
            raise UserError(f"{region.where}: a point. --truth accepts masks, boxes and polygons")
        labels = found.setdefault(region.index, np.full(volume.shape, OUTSIDE, np.int16))
        code, mask = classes.index(region.label), Raster(volume.shape).draw(region.shape)
        twice = doubled.setdefault(region.index, np.zeros(volume.shape, np.bool_))
        twice |= mask & (labels != OUTSIDE) & (labels != code)
        labels[mask] = code
    for index, twice in doubled.items():
        found[index][twice] = OUTSIDE
    if pixels := sum(int(twice.sum()) for twice in doubled.values()):
        text = f"{pixels} pixels have two classes in --truth. Give each pixel one class"
        problems.add("pixels of two classes in --truth", volume.where, text, pixels)
    return found
