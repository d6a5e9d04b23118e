"""A volume in one file as a series: NIfTI, MetaImage or NRRD."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from stagetransfer.ct.input_problems import Problems, without_suffix
from stagetransfer.ct.volume import Geometry, Volume, check_slices
from stagetransfer.formats.grid import Grid
from stagetransfer.formats.metaimage_nrrd import SUFFIXES, read_metaimage_or_nrrd
from stagetransfer.formats.nifti import is_nifti, read_nifti
from stagetransfer.formats.unusable import Floats, Unusable

_AIR = -200.0  # HU; air and lung have less


def is_volume_file(path: Path) -> bool:
    """Whether the suffix is that of NIfTI, MetaImage or NRRD."""
    return is_nifti(path) or path.suffix.lower() in SUFFIXES


def read_grid(path: Path) -> Grid:
    """Read a whole volume into memory, or raise Unusable."""
    return read_nifti(path) if is_nifti(path) else read_metaimage_or_nrrd(path)


# Volumes are used one after another, slice by slice, so one in memory is enough.
_read_cached = lru_cache(maxsize=1)(read_grid)


def read_volume(path: Path, where: str, problems: Problems) -> Volume:
    """Return a file as a series named `where`, or raise Unusable.

    The whole file is read at once, because only this shows whether it is truncated. A volume
    without air is noted: its values may not be Hounsfield units.
    """
    grid = _read_cached(path)
    if grid.stored.dtype.kind == "f" and (bad := int((~np.isfinite(grid.stored)).sum())):
        text = f"{bad} voxels are not numbers. Give them a value, such as -1024 HU"
        raise Unusable("volumes with voxels that are not numbers", text)
    sides = np.linalg.norm(grid.affine[:3, :3], axis=0)
    directions = grid.affine[:3, :3] / sides
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-2:
        raise Unusable("series of mixed grids", "its affine matrix is sheared. Resample the volume")
    spacing, (right, down) = (float(sides[1]), float(sides[0])), directions.T[:2]
    check_slices(spacing, np.cross(right, down))
    width, height, depth = grid.stored.shape
    ends = np.array([grid.stored.min(), grid.stored.max()]) * grid.slope + grid.intercept
    if ends.min() >= _AIR:
        text = f"no voxel below {_AIR:g}, as in stored or grey values. Its values are taken as HU"
        problems.note("volumes that may not be in Hounsfield units", where, text)
    origins = grid.affine[:3, 3] + np.arange(depth)[:, None] * grid.affine[:3, 2]
    gap = float(sides[2]) if depth > 1 else float("inf")
    name = without_suffix(where)

    def read_slice(index: int) -> Floats:
        grid = _read_cached(path)
        plane = grid.stored[:, :, index].T.astype(np.float64)
        return np.asarray(plane * grid.slope + grid.intercept)

    return Volume(
        where=where,
        patient="",
        identity=where,
        names=frozenset([where, name, name.removesuffix("_0000")]),
        files=(where,) * depth,
        shape=(height, width),
        spacing=spacing,
        geometry=Geometry(origins, right, down, gap),
        read_slice=read_slice,
    )
