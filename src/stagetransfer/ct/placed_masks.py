"""Masks on a voxel grid of their own, brought to the slices of a series by their positions."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.ct.annotations import CroppedMask, Region
from stagetransfer.ct.volume import Floats, Volume
from stagetransfer.formats.grid import nib

apply_affine = nib.affines.apply_affine


def locate(
    values: NDArray[Any], affine: Floats, names: Mapping[int, str], volume: Volume
) -> tuple[list[int], int]:
    """Return the slices that a mask's labelled voxels may cover, and how many voxels cover none.

    The affine matrix (4, 4) leads from voxels (x, y, z) to mm.
    """
    geometry, size = volume.geometry, np.array(volume.shape[::-1])
    assert geometry is not None
    # How far a voxel extends along the slices' normal: a thick one covers several slices.
    reach = float(np.abs(geometry.normal @ affine[:3, :3]).sum() / 2) + 1e-3
    ends = [np.inf, -np.inf]
    outside = 0
    for depth in range(values.shape[2]):  # layer by layer, to save memory
        voxels = np.argwhere(np.isin(values[:, :, depth], list(names)))
        points = apply_affine(affine, np.insert(voxels, 2, depth, axis=1))
        heights = points @ geometry.normal
        ends = [heights.min(initial=ends[0]), heights.max(initial=ends[1])]
        slices = geometry.nearest_slice(heights, reach)
        near = np.abs(volume.in_pixels(points, slices) - (size - 1) / 2) <= size / 2 + 1e-3
        outside += int((~near.all(axis=1) | (slices < 0)).sum())
    own = geometry.heights
    covered = np.flatnonzero((own >= ends[0] - reach) & (own <= ends[1] + reach))
    return covered.tolist(), outside


def sample(values: NDArray[Any], affine: Floats, volume: Volume, index: int) -> NDArray[np.int64]:
    """Return (H, W) values of a mask on slice `index`, from the nearest voxel; 0 outside."""
    geometry = volume.geometry
    assert geometry is not None
    assert volume.spacing is not None
    height, width = volume.shape
    inverse = np.linalg.inv(affine)
    # A tiny shift, so that rounding errors do not decide for points halfway between two voxels.
    first = apply_affine(inverse, geometry.origins[index]) - 1e-6
    right = inverse[:3, :3] @ geometry.right * volume.spacing[1]
    down = inverse[:3, :3] @ geometry.down * volume.spacing[0]
    steps = np.arange(width)[None, :], np.arange(height)[:, None]
    voxels = [
        np.rint(one + steps[0] * x + steps[1] * y).astype(np.int64)
        for one, x, y in zip(first, right, down, strict=True)
    ]
    inside = np.all([(at >= 0) & (at < n) for at, n in zip(voxels, values.shape, strict=True)], 0)
    plane = np.zeros(volume.shape, dtype=np.int64)
    plane[inside] = values[tuple(at[inside] for at in voxels)]
    return plane


def regions_of_values(
    index: int, values: NDArray[np.int64], names: Mapping[int, str], where: str
) -> Iterator[Region]:
    """Yield one region per value that occurs on a slice (H, W)."""
    for value, label in names.items():
        mask = values == value
        for box in ndimage.find_objects(mask.astype(np.int8)):
            shape = CroppedMask(box[0].start, box[1].start, mask[box].copy())
            yield Region(index, label, shape, where)
