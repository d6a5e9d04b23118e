"""Annotations from label masks: indexed PNG per slice, NIfTI per series, or DICOM SEG."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stagetransfer.ct import nifti
from stagetransfer.ct.annotations import Annotations, CroppedMask, Region
from stagetransfer.ct.csv_annotations import CsvAnnotations
from stagetransfer.ct.dicom_header import is_dicom
from stagetransfer.ct.dicom_seg_reader import read_segmentation
from stagetransfer.ct.find_series import list_files
from stagetransfer.ct.input_problems import (
    Problems,
    Unusable,
    first_line,
    relative_name,
    without_suffix,
)
from stagetransfer.ct.label_table import LabelTable
from stagetransfer.ct.volume import Floats, UnreadableSlice, Volume
from stagetransfer.errors import UserError
from stagetransfer.files import open_image

_NO_SERIES = "masks of no series"
_OUTSIDE = "annotations outside the image"
_UNREADABLE = "unreadable masks"
apply_affine = nifti.nib.affines.apply_affine
T = TypeVar("T")
# Yields the regions of a mask, given its file, its name for messages and its series.
Reader = Callable[[Path, str, Volume], Iterator[Region]]


def open_annotations(
    path: Path, volumes: Sequence[Volume], labels: LabelTable, problems: Problems
) -> Annotations:
    """Open a CSV of points, boxes and polygons, or a mask or folder of masks."""
    kind = CsvAnnotations if path.suffix.lower() == ".csv" else MaskAnnotations
    return kind(path, volumes, labels, problems)


class MaskAnnotations:
    """Masks in a file or a folder, each assigned to its series.

    A PNG belongs to the slice whose file has the same name and folder, apart from the suffix. A
    NIfTI mask belongs to the series of the same name: a NIfTI file or a DICOM folder. If there is
    one NIfTI mask and one series, they belong together whatever their names. A DICOM SEG refers to
    its series itself. Value 0 is background. `labels` names the values or, in a SEG, the segments'
    labels or numbers. `problems` receives the masks and values that cannot be used.
    """

    def __init__(
        self, path: Path, volumes: Sequence[Volume], labels: LabelTable, problems: Problems
    ) -> None:
        self._volumes, self._labels, self._problems = volumes, labels, problems
        self._masks: defaultdict[int, list[tuple[Path, str, Reader]]] = defaultdict(list)
        self._single = path.is_file()  # a single file is matched without its folder
        self._slices: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, volume in enumerate(volumes):
            for index, slice_file in enumerate(volume.files):
                name = without_suffix(slice_file)
                name = PurePosixPath(name).name if self._single else name
                self._slices[name].append((number, index))
        any_mask = False
        for file in list_files(path, ()):
            where, is_nifti = relative_name(file, path), nifti.is_nifti(file)
            if is_nifti or file.suffix.lower() == ".png":
                if labels.names is None:
                    raise UserError(
                        f"{file}: its values are numbers without names. Name them with --labels, a "
                        "CSV of value,label"
                    )
                find = self._find_nifti if is_nifti else self._find_png
            elif is_dicom(file):
                find = self._find_seg
            else:
                continue
            any_mask = True
            with problems.recording(where):
                for number, reader in find(file, where):
                    self._masks[number].append((file, where, reader))
        if not any_mask:
            raise UserError(f"{path}: no masks in PNG, NIfTI or DICOM SEG, and not a CSV")

    def regions_of(self, volume: int) -> Iterator[Region]:
        """Yield the regions of a series, given its number in the list of series."""
        for file, where, reader in self._masks[volume]:
            with self._problems.recording(where):
                yield from reader(file, where, self._volumes[volume])

    def _find_png(self, file: Path, where: str) -> list[tuple[int, Reader]]:
        """Return the number of the mask's series, and what reads the mask."""
        found = self._slices.get(without_suffix(where), [])
        number, index = _only_one(found, "slice")
        return [(number, partial(self._read_png, index=index))]

    def _find_nifti(self, file: Path, where: str) -> list[tuple[int, Reader]]:
        name = nifti.stem(where)
        only_one = self._single and len(self._volumes) == 1
        found = [
            number
            for number, volume in enumerate(self._volumes)
            if only_one
            or name in {PurePosixPath(one).name if self._single else one for one in volume.names}
        ]
        return [(_only_one(found, "series"), self._read_nifti)]

    def _find_seg(self, file: Path, where: str) -> list[tuple[int, Reader]]:
        try:
            segmentation = read_segmentation(file)
        except ValueError as error:
            raise Unusable(_UNREADABLE, str(error)) from error
        found = [n for n, one in enumerate(self._volumes) if one.identity in segmentation.series]
        if not found:
            raise Unusable(_NO_SERIES, "the series it segments is not in the input")
        return [(number, self._read_seg) for number in found]

    def _read_png(self, file: Path, where: str, volume: Volume, index: int) -> Iterator[Region]:
        try:
            with open_image(file) as image:
                if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
                    raise ValueError(f"an image of mode {image.mode}, not of indices")
                values = np.asarray(image).astype(np.int64)
        except (OSError, ValueError, SyntaxError) as error:
            raise Unusable(_UNREADABLE, f"not readable ({first_line(error)})") from error
        if values.shape != volume.shape:
            sizes = " and ".join(f"{w} x {h}" for h, w in (values.shape, volume.shape))
            raise Unusable(_OUTSIDE, f"mask and slice differ in size: {sizes} pixels")
        yield from _regions(index, values, self._names_of_values(values, where), where)

    def _read_nifti(self, file: Path, where: str, volume: Volume) -> Iterator[Region]:
        try:
            grid = nifti.read_nifti(file)
        except UnreadableSlice as error:
            raise Unusable(_UNREADABLE, str(error)) from error
        scaled = grid.stored
        if (grid.slope, grid.intercept) != (1, 0):
            scaled = scaled * grid.slope + grid.intercept
        scaled = np.where(np.isnan(scaled), 0, scaled)
        values = np.rint(scaled).astype(np.int64)
        if np.abs(values - scaled).max() > 1e-3:
            raise Unusable(_UNREADABLE, "its values are not whole numbers")
        if volume.geometry is None:
            text = "the series has no positions. Give PNG masks, named like its slices"
            raise Unusable(_NO_SERIES, text)
        names = self._names_of_values(values, where)
        covered, outside = _locate(values, grid.affine, names, volume)
        if outside:
            text = f"{outside} labelled voxels lie outside its series' slices"
            self._problems.add(_OUTSIDE, where, text)
        for index in covered:
            plane = _sample(values, grid.affine, volume, index)
            yield from _regions(index, plane, names, f"{where} slice {index}")

    def _read_seg(self, file: Path, where: str, volume: Volume) -> Iterator[Region]:
        geometry = volume.geometry
        assert geometry is not None  # a DICOM series always has one
        segmentation = read_segmentation(file)
        found = {number: (label, str(number)) for number, label in segmentation.labels.items()}
        names = self._names(found, "segment", where)
        for frame in segmentation.frames:
            normal = np.cross(frame.right, frame.down)
            if np.linalg.norm(np.cross(normal, geometry.normal)) > 2e-2:
                text = (
                    "its frames are not parallel to the slices of its series. Convert it to NIfTI"
                )
                raise Unusable(_OUTSIDE, text)
            index = int(geometry.nearest_slice(np.array([frame.origin @ geometry.normal]))[0])
            if index < 0:
                self._problems.add(_OUTSIDE, where, "a frame lies at no slice of its series")
                continue
            # A frame is one voxel deep, as thick as a slice.
            row, column = frame.spacing
            steps = (frame.right * column, frame.down * row, geometry.normal * geometry.depth)
            affine = nifti.nib.affines.from_matvec(np.column_stack(steps), frame.origin)
            grid = frame.values.T[:, :, None]
            _, outside = _locate(grid, affine, names, volume)
            if outside:
                self._problems.add(_OUTSIDE, where, f"{outside} pixels lie outside the slice")
            plane = _sample(grid, affine, volume, index)
            yield from _regions(index, plane, names, f"{where} slice {index}")

    def _names_of_values(self, values: NDArray[np.int64], where: str) -> dict[int, str]:
        found = np.unique(values[values != 0]).tolist()
        return self._names({value: (str(value),) for value in found}, "value", where)

    def _names(self, found: Mapping[int, tuple[str, ...]], kind: str, where: str) -> dict[int, str]:
        """Return the labels of a mask's values, without excluded values."""
        names: dict[int, str] = {}
        for value, candidates in found.items():
            label = self._labels.name_of(*candidates)
            if label is None:
                text = f"{kind} {value} has no name in the table of labels"
                self._problems.add("annotations without a known label", where, text)
            elif label:
                names[value] = label
        return names


def _only_one(found: Sequence[T], what: str) -> T:
    if len(found) != 1:
        text = f"{what} of this name: {len(found) or 'none'}. Name the mask like its {what}"
        raise Unusable(_NO_SERIES, text)
    return found[0]


def _locate(
    values: NDArray[np.int64], affine: Floats, names: Mapping[int, str], volume: Volume
) -> tuple[list[int], int]:
    """Return the slices that a mask's labelled voxels may cover, and how many voxels cover none.

    The affine matrix (4, 4) leads from voxels (x, y, z) to mm.
    """
    geometry = volume.geometry
    assert geometry is not None
    assert volume.spacing is not None
    height, width = volume.shape
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
        shift = points - geometry.origins[slices]
        x, y = shift @ geometry.right / volume.spacing[1], shift @ geometry.down / volume.spacing[0]
        inside = (slices >= 0) & (np.abs(x - (width - 1) / 2) <= width / 2 + 1e-3)
        inside &= np.abs(y - (height - 1) / 2) <= height / 2 + 1e-3
        outside += int((~inside).sum())
    own = geometry.heights
    covered = np.flatnonzero((own >= ends[0] - reach) & (own <= ends[1] + reach))
    return covered.tolist(), outside


def _sample(
    values: NDArray[np.int64], affine: Floats, volume: Volume, index: int
) -> NDArray[np.int64]:
    """Return (H, W) values of a mask on slice `index`, from the nearest voxel; 0 outside."""
    geometry = volume.geometry
    assert geometry is not None
    assert volume.spacing is not None
    height, width = volume.shape
    x = np.arange(width)[None, :, None] * volume.spacing[1] * geometry.right
    y = np.arange(height)[:, None, None] * volume.spacing[0] * geometry.down
    points = geometry.origins[index] + x + y
    # A tiny shift, so that rounding errors do not decide for points halfway between two voxels.
    voxels = np.rint(apply_affine(np.linalg.inv(affine), points) - 1e-6).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < values.shape)).all(axis=-1)
    plane = np.zeros(volume.shape, dtype=np.int64)
    plane[inside] = values[tuple(voxels[inside].T)]
    return plane


def _regions(
    index: int, values: NDArray[np.int64], names: Mapping[int, str], where: str
) -> Iterator[Region]:
    """Yield one region per value that occurs on a slice (H, W)."""
    for value, label in names.items():
        mask = values == value
        for box in ndimage.find_objects(mask.astype(np.int8)):
            shape = CroppedMask(box[0].start, box[1].start, mask[box].copy())
            yield Region(index, label, shape, where)
