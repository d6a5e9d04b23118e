"""Masks that a user gives, slice by slice: where the lung is, and what is true of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct.annotation_table import TableAnnotations
from stagetransfer.ct.label_masks import MaskAnnotations
from stagetransfer.ct.problems import Problems
from stagetransfer.ct.regions import Annotations, Cover, Labels, Outline, Region
from stagetransfer.ct.roi_patches import Raster
from stagetransfer.ct.volume import Volume
from stagetransfer.errors import UserError
from stagetransfer.inference.label_map import Map
from stagetransfer.inference.window_labels import OUTSIDE


class _AnyValue(Labels):
    """Every value but 0 is lung."""

    def __init__(self) -> None:
        super().__init__({})

    def __call__(self, *values: str) -> str | None:
        return "lung"


def lung_masks(path: Path, volumes: Sequence[Volume], problems: Problems) -> Annotations:
    """The user's lung masks: PNG, NIfTI or DICOM SEG, every value but 0 is lung.

    Raises:
        UserError: there are none.
    """
    _check(path, "--mask")
    return MaskAnnotations(path, volumes, _AnyValue(), problems)


def truths(
    path: Path, volumes: Sequence[Volume], labels: Labels, problems: Problems
) -> Annotations:
    """Labelled masks, or a CSV of boxes and polygons, as `stagetransfer extract` takes them.

    Raises:
        UserError: there are none, or they are not of that kind.
    """
    _check(path, "--truth")
    kind = TableAnnotations if path.suffix.lower() == ".csv" else MaskAnnotations
    return kind(path, volumes, labels, problems)


def _check(path: Path, option: str) -> None:
    if not path.exists():
        raise UserError(f"{option} {path}: no such file or folder")


def masks_by_slice(
    annotations: Annotations, number: int, volume: Volume
) -> dict[int, NDArray[np.bool_]]:
    """(H, W) of each slice of a series that has any mask."""
    found: defaultdict[int, NDArray[np.bool_]] = defaultdict(
        lambda: np.zeros(volume.shape, np.bool_)
    )
    for region in annotations.of(number):
        _draw(found[region.index], region, volume, True)
    return dict(found)


def truth_by_slice(
    annotations: Annotations,
    number: int,
    volume: Volume,
    classes: Sequence[str],
    problems: Problems,
) -> dict[int, Map]:
    """(H, W) positions in `classes`, OUTSIDE where nothing is known, of each slice with truth."""
    found: dict[int, Map] = {}
    for region in annotations.of(number):
        if region.label not in classes:
            text = f"label {region.label!r} is none of the run's classes {', '.join(classes)}"
            problems.add("annotations of another class", region.where, text)
            continue
        plane = found.setdefault(region.index, np.full(volume.shape, OUTSIDE, np.int16))
        _draw(plane, region, volume, classes.index(region.label))
    return found


def _draw(
    plane: NDArray[np.bool_] | Map, region: Region, volume: Volume, value: int | bool
) -> None:
    if isinstance(region.shape, Cover):
        cover = region.shape
        height, width = cover.mask.shape
        part = plane[cover.top : cover.top + height, cover.left : cover.left + width]
        part[cover.mask] = value
        return
    if isinstance(region.shape, Outline):
        plane[Raster(volume.shape, (1.0, 1.0)).fill(region.shape)] = value
        return
    raise UserError(f"{region.where}: a point; --truth takes masks, boxes and polygons")
