"""The lungs of a slice, by threshold and shape alone; the user's own mask may stand in for it.

1. air: below -400 HU, after a Gaussian of 1 mm against noise;
2. components that touch the slice's border (the air around the body) go;
3. so do those below 2 cm2 (bowel, trachea), and all but the largest two of the rest;
4. each is closed by a disc of 5 mm and its holes are filled (vessels, nodules, dense disease).

Dense disease that reaches the pleura or the mediastinum is taken for the chest wall, as by every
method of this kind (e.g. Hu, Hoffman, Reinhardt 2001, IEEE TMI 20(6)), and so stays unread: give a
mask where that matters. -400 HU lies midway between lung and soft tissue.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.ct.volume import Floats

Mask = NDArray[np.bool_]

THRESHOLD = -400.0  # HU
_SMOOTH = 1.0  # mm
_LEAST = 200.0  # mm2
_CLOSED = 5.0  # mm
_USUAL = 0.7  # mm a pixel where the spacing is unknown


def lung_mask(hu: Floats, spacing: tuple[float, float] | None) -> Mask:
    """(H, W): where the lungs are on an axial slice (H, W) in Hounsfield units.

    Args:
        spacing: (row, column) distance of the pixels in mm; None counts as 0.7 mm.

    Returns:
        All False on a slice without lung.
    """
    row, column = spacing or (_USUAL, _USUAL)
    smooth = ndimage.gaussian_filter(hu, (_SMOOTH / row, _SMOOTH / column), mode="nearest")
    parts, count = ndimage.label(smooth < THRESHOLD)
    sizes = np.bincount(parts.ravel(), minlength=count + 1).astype(np.float64) * row * column
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    sizes[border] = 0
    sizes[0] = 0
    mask = np.zeros(hu.shape, np.bool_)
    for number in np.argsort(sizes)[::-1][:2]:
        if sizes[number] >= _LEAST:
            mask |= _filled(parts == number, row, column)
    return mask


def _filled(part: Mask, row: float, column: float) -> Mask:
    reach = (int(_CLOSED / row), int(_CLOSED / column))
    padded = np.pad(part, [(reach[0],) * 2, (reach[1],) * 2])
    # By distances, which take no longer for a large disc: grown, then shrunk, by the same reach.
    grown = ndimage.distance_transform_edt(~padded, (row, column)) <= _CLOSED
    closed = ndimage.distance_transform_edt(grown, (row, column)) > _CLOSED
    inner = closed[reach[0] : closed.shape[0] - reach[0], reach[1] : closed.shape[1] - reach[1]]
    return np.asarray(ndimage.binary_fill_holes(inner | part), np.bool_)
