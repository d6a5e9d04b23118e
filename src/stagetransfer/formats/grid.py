"""The voxels of a volume in one file, oriented like axial DICOM slices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from stagetransfer.formats.unusable import Floats, Unreadable, Unusable

nib: Any = nibabel  # most of its functions have no type hints
# Between the axes of NIfTI (right, front, head) and those of DICOM (left, back, head).
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Grid:
    """A volume whose x runs towards the left, y to the back and z to the head."""

    stored: NDArray[Any]  # (X, Y, Z) values before scaling; value = stored x slope + intercept
    affine: Floats  # (4, 4) from voxel (x, y, z) to mm in DICOM's axes
    slope: float = 1.0
    intercept: float = 0.0
    labels: Mapping[int, str] = field(default_factory=dict)  # of the values of a mask, if known

    @property
    def values(self) -> NDArray[Any]:
        """(X, Y, Z) values after scaling."""
        if (self.slope, self.intercept) == (1, 0):
            return self.stored
        return np.asarray(self.stored * self.slope + self.intercept)


def oriented(stored: NDArray[Any], affine: Floats, **scale: Any) -> Grid:
    """Return values (X, Y, Z) as a grid, for an affine matrix to mm in DICOM's axes.

    Axes are only swapped and flipped, so no value changes.
    """
    if stored.ndim != 3 or 0 in stored.shape:
        raise Unreadable(f"{stored.ndim} dimensions of sizes {stored.shape}, not a volume")
    if stored.dtype.kind not in "iuf":
        raise Unreadable(f"values of type {stored.dtype}, not a grey volume")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise Unreadable("its affine matrix is not invertible")
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), [[0, 1], [1, 1], [2, 1]]
    )
    turned = affine @ nib.orientations.inv_ornt_aff(turn, stored.shape)
    return Grid(nib.orientations.apply_orientation(stored, turn), turned, **scale)


def no_orientation(fields: str) -> Unusable:
    """Return the problem of a file that does not say where left and right are."""
    text = f"its header has no {fields}, so left and right are unknown. Set one"
    return Unusable("volumes without an orientation", text)
