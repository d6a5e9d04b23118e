"""NIfTI volumes, read and written."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagetransfer.errors import first_line
from stagetransfer.files import check_size, require_file
from stagetransfer.formats.grid import FLIP, Grid, nib, no_orientation, oriented
from stagetransfer.formats.unusable import MAX_VALUES, Unreadable

# In a unit of length by its code in `xyzt_units`: metre and micron. Others are mm, or unknown.
_MILLIMETRES = {1: 1e3, 3: 1e-3}


def is_nifti(path: Path) -> bool:
    """Whether the suffix is .nii or .nii.gz."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti(path: Path) -> Grid:
    """Read a whole volume into memory, or raise Unusable."""
    try:
        _check_header(path)
        image = nib.load(path)
        shape = image.shape[:3] if image.shape[3:] == (1,) else image.shape
        stored = np.asarray(image.dataobj.get_unscaled()).reshape(shape)
        affine = FLIP @ np.asarray(image.affine, dtype=np.float64)
        affine[:3] *= _MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
        scale = {"slope": float(image.dataobj.slope), "intercept": float(image.dataobj.inter)}
        known = int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0
    except Exception as error:  # nibabel, gzip and zlib have their own exceptions
        raise Unreadable(f"not readable as NIfTI ({first_line(error)})") from error
    if not known:
        raise no_orientation("sform and no qform")
    return oriented(stored, affine, **scale)


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
    affine = FLIP @ np.diag([*spacing[::-1], 1.0])
    nib.save(nib.Nifti1Image(planes.transpose(2, 1, 0), affine), path)
