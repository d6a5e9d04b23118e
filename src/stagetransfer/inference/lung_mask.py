"""The lungs of a series, found by threshold, shape and their connection from slice to slice.

1. Pixels below -400 HU are air, after smoothing with a Gaussian of 1 mm against noise.
2. The body of a slice is its largest solid part, without what is thinner than 4 mm (the table), and
   everything that it encloses. Connected air inside the body is a part, from 0.5 cm2.
3. Parts that contain only gas are removed (trachea, stomach, colon): 90 % of their inside, 2 mm
   from their border, is below -900 HU. Lungs contain vessels, also with emphysema.
4. Parts of neighbouring slices that overlap are connected. A connected chain of parts is lung if it
   is as large as 5 % of the largest chain, one of its parts has 2 cm2, and its middle lies between
   the ends of the largest chain. In a single slice, each part from 2 cm2 is.
5. Each part is closed with a disc of 5 mm, and its holes are filled (vessels, nodules, dense
   disease).

If the chains cover less than 5 % of the body on all slices, there is no plausible lung, as in an
abdomen. Dense disease that touches the pleura or the mediastinum is mistaken for the chest wall and
left out, as in all methods of this kind (e.g. Hu, Hoffman, Reinhardt 2001, IEEE TMI 20(6)). Give a
mask where this matters. -400 HU lies midway between lung and soft tissue.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stagetransfer.ct.roi_patches import Mask
from stagetransfer.ct.volume import Floats, Spacing, Volume
from stagetransfer.formats.unusable import Unreadable

THRESHOLD = -400.0  # HU
_SIGMA = 1.0  # mm
_TABLE = 2.0  # mm, half of the thickness of what is not body
_MIN_PART, _MIN_AREA = 50.0, 200.0  # mm2
_GAS, _GAS_SHARE, _GAS_MARGIN = -900.0, 90, 2.0  # HU, %, mm
_OVERLAP = 0.2  # of the smaller part
_MIN_CHAIN = 0.05  # of the largest chain
_MIN_BODY = 0.05  # share of the body
_CLOSING_RADIUS = 5.0  # mm
_DEFAULT_SPACING = (0.7, 0.7)  # mm per pixel where the spacing is unknown

Labels = NDArray[np.int64]


@dataclass
class Lungs:
    """The lungs of one series; empty if no lung is plausible."""

    shape: tuple[int, int]
    spacing: tuple[float, float]
    parts: dict[int, list[tuple[tuple[slice, ...], Mask]]] = field(default_factory=dict)

    def mask(self, index: int) -> Mask:
        """Return the lungs (H, W) of a slice."""
        mask = np.zeros(self.shape, np.bool_)
        for box, part in self.parts.get(index, []):
            whole = np.zeros(self.shape, np.bool_)
            whole[box] = part
            mask |= _close(whole, *self.spacing)
        return mask


def lungs_of(volume: Volume) -> Lungs:
    """Return the lungs of a series, from the slices that can be read."""

    def planes() -> Iterator[tuple[int, Floats]]:
        for index in range(len(volume)):
            with suppress(Unreadable):  # recorded when the slice itself is read
                yield index, volume.read_slice(index)

    return find_lungs(planes(), volume.spacing)


def find_lungs(planes: Iterable[tuple[int, Floats]], spacing: Spacing) -> Lungs:
    """Return the lungs of axial slices (H, W) in HU, given with their numbers in ascending order.

    The (row, column) spacing is in mm.
    """
    row, column = spacing or _DEFAULT_SPACING
    found: list[tuple[int, tuple[slice, ...], Mask]] = []
    areas, links, shares = [np.zeros(0)], [np.zeros((2, 0), np.int64)], [0.0]
    before = np.zeros((0, 0), np.int64)
    for index, hu in planes:
        parts, own, body = _parts_of_slice(hu, row, column)
        boxes = ndimage.find_objects(parts)
        numbers = np.where(parts > 0, parts + len(found), 0)  # from 1, over all slices
        found += [(index, box, parts[box] == n) for n, box in enumerate(boxes, 1)]
        areas.append(own)
        shares.append(float(own.sum() / max(body, 1.0)))
        if before.size:
            links.append(_overlaps(before, numbers))
        before = numbers
    lungs = Lungs(before.shape, (row, column))
    if max(shares) >= _MIN_BODY:
        slices = np.array([index for index, _, _ in found])
        for n in _lung_parts(np.concatenate(areas), np.hstack(links), slices):
            index, box, part = found[n]
            lungs.parts.setdefault(index, []).append((box, part))
    return lungs


def _parts_of_slice(hu: Floats, row: float, column: float) -> tuple[Labels, Floats, float]:
    """Return the numbered parts (H, W), their areas (N,), and the area of the body in mm2."""
    pixel = row * column
    smooth = ndimage.gaussian_filter(hu, (_SIGMA / row, _SIGMA / column), mode="nearest")
    air = smooth < THRESHOLD
    solid, _ = ndimage.label(ndimage.distance_transform_edt(~air, (row, column)) > _TABLE)
    core = (solid > 0) & (solid == np.bincount(solid.ravel(), minlength=2)[1:].argmax() + 1)
    body = ndimage.binary_fill_holes(_within(core, _TABLE, row, column))
    parts, count = ndimage.label(air & body)
    areas = np.asarray(np.bincount(parts.ravel(), minlength=count + 1) * pixel, np.float64)
    areas[0] = 0
    inside = np.where(~_within(parts == 0, _GAS_MARGIN, row, column), parts, 0)
    for number, box in enumerate(ndimage.find_objects(inside, count), 1):
        if box is not None:
            values = smooth[box][inside[box] == number]
            areas[number] *= np.percentile(values, _GAS_SHARE) >= _GAS
    kept = np.flatnonzero(areas >= _MIN_PART)
    numbers = np.zeros(count + 1, np.int64)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[parts], areas[kept], float(body.sum() * pixel)


def _overlaps(below: Labels, above: Labels) -> Labels:
    """Return (2, L) the numbers of parts that overlap between two slices."""
    both = (below > 0) & (above > 0)
    base = int(above.max()) + 1
    pairs, counts = np.unique(below[both] * base + above[both], return_counts=True)
    ends = np.stack(np.divmod(pairs, base))
    smaller = np.minimum(np.bincount(below.ravel())[ends[0]], np.bincount(above.ravel())[ends[1]])
    return ends[:, counts >= _OVERLAP * smaller]


def _lung_parts(areas: Floats, links: Labels, slices: Labels) -> Labels:
    """Return the places of the parts that are lung; their numbers in `links` begin with 1."""
    size = len(areas)
    edges = coo_array((np.ones(links.shape[1]), tuple(links - 1)), shape=(size, size))
    count, chain = connected_components(edges, directed=False)
    total, numbers = np.bincount(chain, areas), np.arange(count)
    largest = np.asarray(ndimage.maximum(areas, chain, numbers))
    first = np.asarray(ndimage.minimum(slices, chain, numbers))
    last = np.asarray(ndimage.maximum(slices, chain, numbers))
    main, middle = total.argmax(), (first + last) / 2
    good = (largest >= _MIN_AREA) & (middle >= first[main]) & (middle <= last[main])
    if len(np.unique(slices)) > 1:
        good &= total >= _MIN_CHAIN * total.max()
    return np.flatnonzero(good[chain])


def _within(mask: Mask, distance: float, row: float, column: float) -> Mask:
    """Return the pixels within a distance in mm of a mask; its time does not grow with it."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask, (row, column)) <= distance)


def _close(part: Mask, row: float, column: float) -> Mask:
    rows, columns = int(_CLOSING_RADIUS / row), int(_CLOSING_RADIUS / column)
    padded = np.pad(part, [(rows, rows), (columns, columns)])
    grown = _within(padded, _CLOSING_RADIUS, row, column)
    closed = ~_within(~grown, _CLOSING_RADIUS, row, column)
    inner = closed[rows : closed.shape[0] - rows, columns : closed.shape[1] - columns]
    return np.asarray(ndimage.binary_fill_holes(inner | part), np.bool_)
