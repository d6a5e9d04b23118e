"""The lungs of a slice, found by threshold and shape; a user may give a mask instead.

1. Pixels below -400 HU are air, after smoothing with a Gaussian of 1 mm against noise.
2. Components that touch the border of the slice are removed (the air around the body).
3. Components below 2 cm2 are removed (bowel, trachea), and all but the largest two of the rest.
4. Each component is closed with a disc of 5 mm, and its holes are filled (vessels, nodules, dense
   disease).

Dense disease that touches the pleura or the mediastinum is mistaken for the chest wall and left
out, as in all methods of this kind (e.g. Hu, Hoffman, Reinhardt 2001, IEEE TMI 20(6)). Give a mask
where this matters. -400 HU lies midway between lung and soft tissue.
"""

import numpy as np
from scipy import ndimage

from stagetransfer.ct.roi_patches import Mask
from stagetransfer.ct.volume import Floats, Spacing

THRESHOLD = -400.0  # HU
_SIGMA = 1.0  # mm
_MIN_AREA = 200.0  # mm2
_CLOSING_RADIUS = 5.0  # mm
_DEFAULT_SPACING = 0.7  # mm per pixel where the spacing is unknown


def lung_mask(hu: Floats, spacing: Spacing) -> Mask:
    """Return the lungs (H, W) of an axial slice (H, W) in HU with (row, column) spacing in mm."""
    row, column = spacing or (_DEFAULT_SPACING, _DEFAULT_SPACING)
    smooth = ndimage.gaussian_filter(hu, (_SIGMA / row, _SIGMA / column), mode="nearest")
    parts, count = ndimage.label(smooth < THRESHOLD)
    areas = np.bincount(parts.ravel(), minlength=count + 1).astype(np.float64) * row * column
    areas[np.concatenate([[0], parts[0], parts[-1], parts[:, 0], parts[:, -1]])] = 0
    mask = np.zeros(hu.shape, np.bool_)
    for number in np.argsort(areas)[::-1][:2]:
        if areas[number] >= _MIN_AREA:
            mask |= _close(parts == number, row, column)
    return mask


def _close(part: Mask, row: float, column: float) -> Mask:
    rows, columns = int(_CLOSING_RADIUS / row), int(_CLOSING_RADIUS / column)
    padded = np.pad(part, [(rows, rows), (columns, columns)])
    # Dilation and erosion by distance transforms, whose time does not grow with the disc.
    grown = ndimage.distance_transform_edt(~padded, (row, column)) <= _CLOSING_RADIUS
    closed = ndimage.distance_transform_edt(grown, (row, column)) > _CLOSING_RADIUS
    inner = closed[rows : closed.shape[0] - rows, columns : closed.shape[1] - columns]
    return np.asarray(ndimage.binary_fill_holes(inner | part), np.bool_)
