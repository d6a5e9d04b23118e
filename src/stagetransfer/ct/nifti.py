"""NIfTI volumes, reoriented so that their slices look like axial DICOM slices."""

import gzip
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct.input_problems import Unusable, first_line
from stagetransfer.ct.volume import MAX_VALUES, Floats, Geometry, UnreadableSlice, Volume
from stagetransfer.files import check_size, require_file

nib: Any = nibabel  # most of its functions have no type hints
# The axes of NIfTI are (right, front, head); those of DICOM are (left, back, head).
_TO_DICOM = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_nifti(path: Path) -> bool:
    """Whether the suffix is .nii or .nii.gz."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def stem(name: str) -> str:
    """Return a path without .nii or .nii.gz."""
    return name[: name.lower().rindex(".nii")]


@dataclass(frozen=True)
class Grid:
    """A NIfTI volume, reoriented to x towards the left, y to the back, z to the head."""

    stored: NDArray[Any]  # (X, Y, Z) values before scaling
    slope: float  # value = stored x slope + intercept
    intercept: float
    affine: Floats  # (4, 4) from voxel (x, y, z) to mm in DICOM's axes
    oriented: bool  # whether the header has an orientation (sform or qform)


def read_nifti(path: Path) -> Grid:
    """Read a whole volume into memory, or raise UnreadableSlice."""
    try:
        _check_header(path)
        image = nib.load(path)
        shape = image.shape[:3] if image.shape[3:] == (1,) else image.shape
        if len(shape) != 3 or 0 in shape:
            raise ValueError(f"{len(shape)} dimensions of sizes {shape}, not a volume")
        affine = np.asarray(image.affine, dtype=np.float64)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise ValueError("its affine matrix is not invertible")
        stored = np.asarray(image.dataobj.get_unscaled()).reshape(shape)
    except Exception as error:  # nibabel, gzip and zlib have their own exceptions
        raise UnreadableSlice(f"not readable as NIfTI ({first_line(error)})") from error
    if stored.dtype.kind not in "iuf":
        raise UnreadableSlice(f"values of type {stored.dtype}, not a grey volume")
    orientations = nib.orientations
    turn = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(("L", "P", "S"))
    )
    return Grid(
        orientations.apply_orientation(stored, turn),
        float(image.dataobj.slope),
        float(image.dataobj.inter),
        _TO_DICOM @ affine @ orientations.inv_ornt_aff(turn, shape),
        int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0,
    )


def _check_header(path: Path) -> None:
    """Raise ValueError if the header promises a volume that is too large, before it is inflated."""
    require_file(path)
    zipped = path.name.lower().endswith(".gz")
    with gzip.open(path) if zipped else path.open("rb") as file:
        start = file.read(nib.Nifti2Header.sizeof_hdr)
    kinds = (nib.Nifti1Header, nib.Nifti2Header)
    kind = next((one for one in kinds if one.may_contain_header(start)), None)
    if kind is None:
        raise ValueError("no header of NIfTI")
    header = kind(start[: kind.sizeof_hdr], check=False)
    shape, offset = header.get_data_shape(), float(header["vox_offset"])
    check_size(*shape[:2])
    values = math.prod(shape)
    if values > MAX_VALUES:
        raise ValueError(f"{values} voxels, more than {MAX_VALUES >> 20} million")
    if not offset <= 2**24:  # extensions between header and voxels
        raise ValueError("its voxels begin too far behind the header")
    # gzip shrinks by a factor of 1,032 at most.
    if values * header.get_data_dtype().itemsize > path.stat().st_size * (1100 if zipped else 1):
        raise ValueError("the file is truncated")


def write_nifti(path: Path, planes: NDArray[Any], spacing: tuple[float, float, float]) -> None:
    """Write slices (Z, H, W), oriented as in DICOM, with (slice, row, column) spacing in mm."""
    affine = _TO_DICOM @ np.diag([*spacing[::-1], 1.0])
    nib.save(nib.Nifti1Image(planes.transpose(2, 1, 0), affine), path)


# Volumes are used one after another, slice by slice, so one in memory is enough.
_read_cached = lru_cache(maxsize=1)(read_nifti)


def read_volume(path: Path, where: str) -> Volume:
    """Return a NIfTI file as a series named `where`, or raise Unusable.

    The whole file is read at once, because only this shows whether it is truncated.
    """
    try:
        grid = read_nifti(path)
    except UnreadableSlice as error:
        raise Unusable("unreadable files", str(error)) from error
    if grid.stored.dtype.kind == "f" and (bad := int((~np.isfinite(grid.stored)).sum())):
        text = f"{bad} voxels are not numbers. Give them a value, such as -1024 HU"
        raise Unusable("volumes with voxels that are not numbers", text)
    if not grid.oriented:
        text = "its header has no sform and no qform, so left and right are unknown. Set one"
        raise Unusable("volumes without an orientation", text)
    sides = np.linalg.norm(grid.affine[:3, :3], axis=0)
    directions = grid.affine[:3, :3] / sides
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-2:
        raise Unusable("series of mixed grids", "its affine matrix is sheared. Resample the volume")
    width, height, depth = grid.stored.shape
    origins = grid.affine[:3, 3] + np.arange(depth)[:, None] * grid.affine[:3, 2]
    gap = float(sides[2]) if depth > 1 else float("inf")

    def read_slice(index: int) -> Floats:
        grid = _read_cached(path)
        plane = grid.stored[:, :, index].T.astype(np.float64)
        return np.asarray(plane * grid.slope + grid.intercept)

    return Volume(
        where=where,
        patient="",
        identity=where,
        names=frozenset([where, stem(where), stem(where).removesuffix("_0000")]),
        files=(where,) * depth,
        shape=(height, width),
        spacing=(float(sides[1]), float(sides[0])),
        geometry=Geometry(origins, directions[:, 0], directions[:, 1], gap),
        read_slice=read_slice,
    )
