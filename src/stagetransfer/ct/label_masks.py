"""Annotations as label masks: indexed PNG, a file a slice; NIfTI, a file a series; DICOM SEG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stagetransfer.ct import dicom, nifti
from stagetransfer.ct.dicom_seg_reader import read_segmentation
from stagetransfer.ct.problems import Problems, reason, relative
from stagetransfer.ct.regions import Cover, Labels, Region
from stagetransfer.ct.volume import Floats, Geometry, Volume
from stagetransfer.errors import UserError

_NO_SERIES = "masks of no series"
_OUTSIDE = "annotations outside the image"

Reader = Callable[[], Iterator[Region]]


class MaskAnnotations:
    """Masks in a file or a folder, each tied to its series.

    A PNG belongs to the slice whose file has its name and folder (but for the suffix), a NIfTI
    mask to the series of its name: the NIfTI file's, or the DICOM folder's. One NIfTI mask and one
    series belong together by whatever name. A DICOM SEG names its series itself. Value 0 is
    background.

    Args:
        path: the mask or the folder of masks.
        volumes: the series.
        labels: names of the values; of a SEG, of its segments' labels or numbers.
        problems: takes what can't be used.

    Raises:
        UserError: no masks there, or their numbers have no names.
    """

    def __init__(
        self, path: Path, volumes: Sequence[Volume], labels: Labels, problems: Problems
    ) -> None:
        self._volumes = volumes
        self._labels = labels
        self._problems = problems
        self._readers: defaultdict[int, list[Reader]] = defaultdict(list)
        self._alone = path.is_file()  # a single file has no folder to go by
        self._slices: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, volume in enumerate(volumes):
            for index, slice_file in enumerate(volume.files):
                name = PurePosixPath(slice_file).with_suffix("")
                self._slices[name.name if self._alone else str(name)].append((number, index))
        found = [path] if self._alone else sorted(one for one in path.rglob("*") if one.is_file())
        masks = 0
        for file in found:
            where = relative(file, path)
            if file.suffix.lower() == ".png":
                tie = self._tie_png
            elif nifti.is_nifti(file):
                tie = self._tie_nifti
            elif dicom.is_dicom(file):
                tie = self._tie_segmentation
            else:
                continue
            masks += 1
            if tie != self._tie_segmentation and labels.names is None:
                raise UserError(
                    f"{file}: its values are numbers; name them by --labels, a CSV of value,label"
                )
            tie(file, where)
        if not masks:
            raise UserError(f"{path}: no masks in PNG, NIfTI or DICOM SEG, and no CSV")

    def of(self, volume: int) -> Iterator[Region]:
        """The regions of a series, by its number in the list of series."""
        for reader in self._readers[volume]:
            yield from reader()

    def _tie_png(self, file: Path, where: str) -> None:
        name = str(PurePosixPath(where).with_suffix(""))
        fits = self._slices.get(name, [])
        if len(fits) != 1:
            text = f"{len(fits) or 'no'} slices have this name; name it like its slice's file"
            self._problems.add(_NO_SERIES, where, text)
            return
        number, index = fits[0]
        self._readers[number].append(partial(self._from_png, file, where, number, index))

    def _tie_nifti(self, file: Path, where: str) -> None:
        name = nifti.stem(where)
        fits = [
            number
            for number, volume in enumerate(self._volumes)
            if (self._alone and len(self._volumes) == 1)
            or any(
                name == (PurePosixPath(one).name if self._alone else one) for one in volume.names
            )
        ]
        if len(fits) != 1:
            text = f"{len(fits) or 'no'} series have this name; name it like its series"
            self._problems.add(_NO_SERIES, where, text)
            return
        self._readers[fits[0]].append(partial(self._from_nifti, file, where, fits[0]))

    def _tie_segmentation(self, file: Path, where: str) -> None:
        try:
            segmentation = read_segmentation(file)
        except ValueError as error:
            self._problems.add("unreadable masks", where, str(error))
            return
        fits = [
            number
            for number, volume in enumerate(self._volumes)
            if volume.identity in segmentation.series
        ]
        if not fits:
            self._problems.add(_NO_SERIES, where, "the series it segments is not in the input")
        for number in fits:
            self._readers[number].append(partial(self._from_seg, file, where, number))

    def _from_png(self, file: Path, where: str, number: int, index: int) -> Iterator[Region]:
        try:
            with Image.open(file) as image:
                if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
                    raise ValueError(f"a picture of mode {image.mode}, not of indices")
                values = np.asarray(image).astype(np.int64)
        except (OSError, ValueError, SyntaxError) as error:
            self._problems.add("unreadable masks", where, f"not readable ({reason(error)})")
            return
        if values.shape != self._volumes[number].shape:
            sizes = " and ".join(
                f"{w} x {h}" for h, w in (values.shape, self._volumes[number].shape)
            )
            self._problems.add(_OUTSIDE, where, f"mask and slice differ in size: {sizes} pixels")
            return
        known = self._names(where, values)
        yield from _covers(index, values, known, where)

    def _from_nifti(self, file: Path, where: str, number: int) -> Iterator[Region]:
        volume = self._volumes[number]
        try:
            grid = nifti.read_nifti(file)
        except ValueError as error:
            self._problems.add("unreadable masks", where, str(error))
            return
        scaled = grid.stored * grid.slope + grid.intercept if grid.slope != 1 else grid.stored
        values = np.rint(scaled).astype(np.int64)
        if np.abs(values - scaled).max() > 1e-3:
            self._problems.add("unreadable masks", where, "values between whole numbers; no labels")
            return
        if volume.geometry is None:
            text = "the series has no positions; give PNG masks, named like its slices"
            self._problems.add(_NO_SERIES, where, text)
            return
        known = self._names(where, values)
        wanted = [int(value) for value in known]
        reached: set[int] = set()
        off = 0
        for depth in range(values.shape[2]):  # by layers: all voxels at once would fill the memory
            inside = np.argwhere(np.isin(values[:, :, depth], wanted))
            voxels = np.insert(inside, 2, depth, axis=1)
            slices, out = place(voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3], volume)
            reached.update(slices.tolist())
            off += out
        if off:
            text = f"{off} labelled voxels lie outside its series' slices"
            self._problems.add(_OUTSIDE, where, text)
        for index in _around(reached, len(volume)):
            plane = sample(values, grid.affine, volume.geometry, volume, index)
            yield from _covers(index, plane, known, f"{where} slice {index}")

    def _from_seg(self, file: Path, where: str, number: int) -> Iterator[Region]:
        volume = self._volumes[number]
        segmentation = read_segmentation(file)
        geometry = volume.geometry
        assert geometry is not None  # DICOM always has one
        names: dict[int, str] = {}
        for segment, text in segmentation.labels.items():
            label = self._labels(text, str(segment))
            if label is None:
                line = f"segment {segment} has no name in the table of labels"
                self._problems.add("annotations without a known label", where, line)
            elif label:
                names[segment] = label
        for frame in segmentation.frames:
            if np.abs(np.cross(frame.right, frame.down) @ geometry.right) > 1e-2:
                self._problems.add(_OUTSIDE, where, "a frame is not parallel to the slices")
                continue
            normal = np.cross(geometry.right, geometry.down)
            index = int(geometry.slice_at(np.array([frame.corner @ normal]))[0])
            if index < 0:
                self._problems.add(_OUTSIDE, where, "a frame lies at no slice of its series")
                continue
            # One voxel deep, as deep as the slices are apart.
            depth = geometry.gap if np.isfinite(geometry.gap) else 2.0
            affine = np.eye(4)
            affine[:3, 0] = frame.right * frame.spacing[1]
            affine[:3, 1] = frame.down * frame.spacing[0]
            affine[:3, 2] = normal * depth
            affine[:3, 3] = frame.corner
            grid = frame.values.T[:, :, None]
            voxels = np.argwhere(np.isin(grid, list(names)))
            _, off = place(voxels @ affine[:3, :3].T + affine[:3, 3], volume)
            if off:
                self._problems.add(_OUTSIDE, where, f"{off} pixels lie outside the slice")
            plane = sample(grid, affine, geometry, volume, index)
            known = {str(segment): label for segment, label in names.items()}
            yield from _covers(index, plane, known, f"{where} slice {index}")

    def _names(self, where: str, values: NDArray[np.int64]) -> dict[str, str]:
        """Labels of the mask's values, but for background and what is to be left out."""
        names: dict[str, str] = {}
        for value in np.unique(values[values != 0]).tolist():
            label = self._labels(str(value))
            if label is None:
                line = f"value {value} has no name in the table of labels"
                self._problems.add("annotations without a known label", where, line)
            elif label:
                names[str(value)] = label
        return names


def place(points: Floats, volume: Volume) -> tuple[NDArray[np.int64], int]:
    """The slices on which (N, 3) points in mm lie, and how many points lie on none."""
    geometry = volume.geometry
    assert geometry is not None
    assert volume.spacing is not None
    slices = geometry.slice_at(points @ np.cross(geometry.right, geometry.down))
    shift = points - geometry.corners[slices]
    x, y = shift @ geometry.right / volume.spacing[1], shift @ geometry.down / volume.spacing[0]
    height, width = volume.shape
    inside = (slices >= 0) & (np.abs(x - (width - 1) / 2) <= width / 2 + 1e-3)
    inside &= np.abs(y - (height - 1) / 2) <= height / 2 + 1e-3
    return np.unique(slices[inside]), int((~inside).sum())


def sample(
    values: NDArray[np.int64], affine: Floats, geometry: Geometry, volume: Volume, index: int
) -> NDArray[np.int64]:
    """(H, W) values of a mask on slice `index`: those of the nearest voxel, 0 outside."""
    assert volume.spacing is not None
    inverse = np.linalg.inv(affine)
    height, width = volume.shape
    x = np.arange(width)[None, :, None] * volume.spacing[1] * geometry.right
    y = np.arange(height)[:, None, None] * volume.spacing[0] * geometry.down
    points = geometry.corners[index] + x + y
    # The thousandth keeps a point halfway between two voxels from falling to either by rounding.
    voxels = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3] - 1e-6).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < values.shape)).all(axis=-1)
    plane = np.zeros(volume.shape, dtype=np.int64)
    plane[inside] = values[tuple(voxels[inside].T)]
    return plane


def _around(slices: set[int], count: int) -> list[int]:
    """The slices and their neighbours: a thick voxel reaches beyond the slice of its middle."""
    return [k for k in range(count) if slices & {k - 1, k, k + 1}]


def _covers(
    index: int, values: NDArray[Any], names: dict[str, str], where: str
) -> Iterator[Region]:
    for value, label in names.items():
        mask = values == int(value)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            top, left = int(rows[0]), int(columns[0])
            cut = mask[top : rows[-1] + 1, left : columns[-1] + 1].copy()
            yield Region(index, label, Cover(top, left, cut), where)
