"""NIfTI volumes, turned so that their slices look as DICOM's axial ones do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct.problems import Problems, reason, relative
from stagetransfer.ct.volume import Floats, Geometry, UnreadableSlice, Volume

SUFFIXES = (".nii", ".nii.gz")
nib: Any = nibabel  # most of its functions are untyped
# NIfTI's world is (right, front, head), DICOM's (left, back, head).
_TO_DICOM = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_nifti(path: Path) -> bool:
    """By the suffix, .nii or .nii.gz."""
    return path.name.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """The path without .nii or .nii.gz."""
    return name[: name.lower().rindex(".nii")]


@dataclass(frozen=True)
class Grid:
    """A NIfTI volume turned to (x to the left, y to the back, z to the head).

    Attributes:
        stored: (X, Y, Z) values before scaling.
        slope, intercept: value = stored x slope + intercept.
        affine: (4, 4) from voxel (x, y, z) to mm in DICOM's axes.
    """

    stored: NDArray[Any]
    slope: float
    intercept: float
    affine: Floats

    @property
    def voxel(self) -> Floats:
        """(3,) sides of a voxel in mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))


def read_nifti(path: Path) -> Grid:
    """Reads a volume whole.

    Raises:
        ValueError: not a readable volume; the message says why, without the file's name.
    """
    try:
        image = nib.load(path)
        shape = image.shape
        if len(shape) == 4 and shape[3] == 1:
            image, shape = nib.four_to_three(image)[0], shape[:3]
        if len(shape) != 3 or 0 in shape:
            raise ValueError(f"{len(shape)} dimensions of sizes {shape}, not a volume")
        affine = np.asarray(image.affine, dtype=np.float64)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise ValueError("its affine is not a position in space")
        proxy = image.dataobj
        scaled = not hasattr(proxy, "get_unscaled")  # four_to_three gives an array
        stored = np.asarray(proxy if scaled else proxy.get_unscaled())
    except Exception as error:  # nibabel, gzip and zlib have errors of their own
        raise ValueError(f"not readable as NIfTI ({reason(error)})") from error
    if stored.dtype.kind not in "iuf":
        raise ValueError(f"values of type {stored.dtype}, not a grey volume")
    orientation = nib.orientations.io_orientation(affine)
    turn = nib.orientations.ornt_transform(
        orientation, nib.orientations.axcodes2ornt(("L", "P", "S"))
    )
    return Grid(
        nib.orientations.apply_orientation(stored, turn),
        1.0 if scaled else float(proxy.slope),
        0.0 if scaled else float(proxy.inter),
        _TO_DICOM @ affine @ nib.orientations.inv_ornt_aff(turn, shape),
    )


def write_nifti(path: Path, planes: NDArray[Any], spacing: tuple[float, float, float]) -> None:
    """Writes slices (Z, H, W), as DICOM shows them, as a volume.

    Args:
        spacing: mm from slice to slice, row to row, column to column.
    """
    affine = _TO_DICOM @ np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    image = nib.Nifti1Image(planes.transpose(2, 1, 0), affine)
    nib.save(image, path)


def read_volume(path: Path, root: Path, problems: Problems) -> Volume | None:
    """A NIfTI file as a series; None after noting why it isn't one.

    The file is read whole here (a truncated one shows only then) and kept while it is in use.
    """
    where = relative(path, root)
    try:
        grid = read_nifti(path)
    except ValueError as error:
        problems.add("unreadable files", where, str(error))
        return None
    sides = grid.voxel
    directions = grid.affine[:3, :3] / sides
    off = np.abs(directions.T @ directions - np.eye(3)).max()
    if off > 1e-2:
        problems.add("series of mixed grids", where, "its affine is sheared; resample the volume")
        return None
    depth = grid.stored.shape[2]
    steps = np.arange(depth)[:, None] * grid.affine[:3, 2]
    return Volume(
        where=where,
        patient="",
        identity=where,
        names=frozenset([where, stem(where)]),
        files=(where,) * depth,
        instances=(None,) * depth,
        sops=("",) * depth,
        shape=(grid.stored.shape[1], grid.stored.shape[0]),
        spacing=(float(sides[1]), float(sides[0])),
        geometry=Geometry(
            grid.affine[:3, 3] + steps,
            directions[:, 0],
            directions[:, 1],
            float(sides[2]) if depth > 1 else float("inf"),
        ),
        whole=True,
        read=lambda index: _plane(path, index),
    )


# One volume at a time is in use, slice by slice.
_kept = lru_cache(maxsize=1)(read_nifti)


def _plane(path: Path, index: int) -> Floats:
    try:
        grid = _kept(path)
    except ValueError as error:
        raise UnreadableSlice(str(error)) from error
    plane = grid.stored[:, :, index].T.astype(np.float64)
    return np.asarray(plane * grid.slope + grid.intercept)
