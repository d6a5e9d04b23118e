"""Annotations in files: label masks, RT structure sets and ROIs of ImageJ."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct.annotations import Annotations, Point, Polygon, Region
from stagetransfer.ct.csv_annotations import CsvAnnotations
from stagetransfer.ct.dicom_header import is_dicom
from stagetransfer.ct.find_series import list_files
from stagetransfer.ct.input_problems import Problems, relative_name, without_suffix
from stagetransfer.ct.label_table import LabelTable
from stagetransfer.ct.placed_masks import locate, regions_of_values, sample
from stagetransfer.ct.png_slices import read_values
from stagetransfer.ct.volume import Volume
from stagetransfer.ct.volume_files import is_volume_file, read_grid
from stagetransfer.errors import UserError
from stagetransfer.formats import imagej_rois
from stagetransfer.formats.dicom_seg_reader import read_segmentation
from stagetransfer.formats.rtstruct_reader import Contour, is_structure_set, read_structure_set
from stagetransfer.formats.unusable import Floats, Unreadable, Unusable

_NO_SERIES = "masks of no series"
_NO_SLICE = "annotations of no slice"
_OUTSIDE = "annotations outside the image"
_OPEN = "outlines that enclose nothing"
T = TypeVar("T")
# Yields the regions of a file, given its path, its name for messages and its series.
Reader = Callable[[Path, str, Volume], Iterator[Region]]


def open_annotations(
    path: Path, volumes: Sequence[Volume], labels: LabelTable, problems: Problems
) -> Annotations:
    """Open a CSV of points, boxes and polygons, or another file or folder of annotations."""
    kind = CsvAnnotations if path.suffix.lower() == ".csv" else MaskAnnotations
    return kind(path, volumes, labels, problems)


class MaskAnnotations:
    """Masks and outlines in a file or a folder, each assigned to its series.

    A PNG belongs to the slice whose file has the same name and folder, apart from the suffix. A
    mask in NIfTI, MetaImage or NRRD belongs to the series of the same name: a file or a DICOM
    folder. If there is one mask and one series, they belong together whatever their names. ROIs of
    ImageJ belong to the slice or the series of their file's name. DICOM SEG and RTSTRUCT refer to
    their series themselves. Value 0 is background. `labels` names the values or, where the file has
    names, renames these or their numbers. `problems` receives what cannot be used.
    """

    def __init__(
        self, path: Path, volumes: Sequence[Volume], labels: LabelTable, problems: Problems
    ) -> None:
        self._volumes, self._labels, self._problems = volumes, labels, problems
        self._files: defaultdict[int, list[tuple[Path, str, Reader]]] = defaultdict(list)
        self._single = path.is_file()  # a single file is matched without its folder
        self._slices: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, volume in enumerate(volumes):
            for index, slice_file in enumerate(volume.files):
                self._slices[self._name(without_suffix(slice_file))].append((number, index))
        any_file = False
        for file in list_files(path, ()):
            where, suffix = relative_name(file, path), file.suffix.lower()
            is_mask = is_volume_file(file) or suffix == ".png"
            if not (is_mask or suffix in imagej_rois.SUFFIXES or is_dicom(file)):
                continue
            any_file = True
            if labels.names is None and is_mask and ".seg." not in file.name:
                raise UserError(
                    f"{file}: its values are numbers without names. Name them with --labels, a "
                    "CSV of value,label"
                )
            with problems.recording(where):
                for number, reader in self._find_series(file, where):
                    self._files[number].append((file, where, reader))
        if not any_file:
            raise UserError(
                f"{path}: no masks in PNG, NIfTI, MetaImage, NRRD or DICOM SEG, no RTSTRUCT and no "
                "ROI of ImageJ. Give a file of one of these kinds, or a folder with some"
            )

    def regions_of(self, volume: int) -> Iterator[Region]:
        """Yield the regions of a series, given its number in the list of series."""
        for file, where, reader in self._files[volume]:
            with self._problems.recording(where):
                yield from reader(file, where, self._volumes[volume])

    def _name(self, path: str) -> str:
        return PurePosixPath(path).name if self._single else path

    def _series_named(self, name: str) -> int:
        only_one = self._single and len(self._volumes) == 1
        found = [
            number
            for number, volume in enumerate(self._volumes)
            if only_one or name in map(self._name, volume.names)
        ]
        return _only_one(found, "series")

    def _find_series(self, file: Path, where: str) -> list[tuple[int, Reader]]:
        """Return the numbers of the series that a file belongs to, and what reads its regions."""
        name, suffix = without_suffix(where), file.suffix.lower()
        if is_volume_file(file):
            return [(self._series_named(name), self._read_volume_mask)]
        of_slice = self._slices.get(name, [])
        if suffix == ".png":
            number, index = _only_one(of_slice, "slice")
            return [(number, partial(self._read_png, index=index))]
        if suffix not in imagej_rois.SUFFIXES:
            return self._find_dicom(file)
        if len(of_slice) == 1:
            number, index = of_slice[0]
            return [(number, partial(self._read_rois, own=index))]
        return [(self._series_named(name), self._read_rois)]

    def _find_dicom(self, file: Path) -> list[tuple[int, Reader]]:
        if is_structure_set(file):
            uids, reader = read_structure_set(file).uids, self._read_structure_set
        else:
            uids, reader = read_segmentation(file).uids, self._read_seg
        volumes = list(enumerate(self._volumes))
        # A series may consist of several acquisitions, which only the slices tell apart.
        found = [number for number, one in volumes if not uids.isdisjoint(one.sop_uids)]
        found = found or [number for number, one in volumes if uids & one.names]
        if not uids and self._single and len(volumes) == 1:
            found = [0]
        if not found:
            raise Unusable(_NO_SERIES, "the series it segments is not in the input")
        return [(number, reader) for number in found]

    def _read_png(self, file: Path, where: str, volume: Volume, index: int) -> Iterator[Region]:
        values = read_values(file, is_mask=True)
        if values.shape != volume.shape:
            sizes = " and ".join(f"{w} x {h}" for h, w in (values.shape, volume.shape))
            raise Unusable(_OUTSIDE, f"mask and slice differ in size: {sizes} pixels")
        yield from regions_of_values(index, values, self._names_of_values(values, where), where)

    def _read_volume_mask(self, file: Path, where: str, volume: Volume) -> Iterator[Region]:
        grid = read_grid(file)
        values = grid.values
        if values.dtype.kind == "f":
            scaled = np.where(np.isnan(values), 0, values)
            values = np.rint(scaled)
            if np.abs(values - scaled).max() > 1e-3:
                raise Unreadable("its values are not whole numbers")
        values = values.astype(np.int64)
        if volume.geometry is None:
            text = "the series has no positions. Give PNG masks, named like its slices"
            raise Unusable(_NO_SERIES, text)
        names = self._names_of_values(values, where, grid.labels)
        yield from self._placed(values, grid.affine, names, where, volume)

    def _read_seg(self, file: Path, where: str, volume: Volume) -> Iterator[Region]:
        geometry = volume.geometry
        assert geometry is not None  # a DICOM series always has one
        segmentation = read_segmentation(file)
        names = self._names_of_numbers(segmentation.labels, "segment", where)
        # A frame is one voxel deep, as thick as a slice.
        depth = np.diag([1, 1, geometry.depth, 1])
        for frame in segmentation.frames:
            if np.linalg.norm(np.cross(frame.affine[:3, 2], geometry.normal)) > 2e-2:
                text = (
                    "its frames are not parallel to the slices of its series. Convert it to NIfTI"
                )
                raise Unusable(_OUTSIDE, text)
            grid = frame.values.T[:, :, None]
            yield from self._placed(grid, frame.affine @ depth, names, where, volume)

    def _placed(
        self,
        values: NDArray[Any],
        affine: Floats,
        names: Mapping[int, str],
        where: str,
        volume: Volume,
    ) -> Iterator[Region]:
        """Yield the regions of a mask (X, Y, Z) on the slices that it covers."""
        covered, outside = locate(values, affine, names, volume)
        if outside:
            text = f"{outside} labelled voxels lie outside its series' slices"
            self._problems.add(_OUTSIDE, where, text)
        for index in covered:
            plane = sample(values, affine, volume, index)
            yield from regions_of_values(index, plane, names, f"{where} slice {index}")

    def _read_structure_set(self, file: Path, where: str, volume: Volume) -> Iterator[Region]:
        structures = read_structure_set(file)
        names = self._names_of_numbers(structures.labels, "region", where)
        rings: defaultdict[tuple[int, int], list[Floats]] = defaultdict(list)
        # A contour of another series is read with that series.
        others = {uid for one in self._volumes for uid in one.sop_uids}.difference(volume.sop_uids)
        for number, contour in enumerate(structures.contours, 1):
            if contour.region in names and contour.sop_uid not in others:
                with self._problems.recording(f"{where} contour {number}"):
                    index, points = _in_slice(contour, volume)
                    rings[contour.region, index].append(points)
        for (region, index), found in rings.items():
            yield Region(index, names[region], Polygon.of_rings(found), f"{where} slice {index}")

    def _read_rois(
        self, file: Path, where: str, volume: Volume, own: int | None = None
    ) -> Iterator[Region]:
        for number, roi in enumerate(imagej_rois.read_rois(file), 1):
            here = f"{where} ROI {number}"
            with self._problems.recording(here):
                label = self._names({number: (roi.name, str(roi.group))}, "ROI", here).get(number)
                if not label:
                    continue
                index = _slice_of_stack(roi.position, volume) if own is None else own
                if not roi.rings:
                    raise Unusable(_OPEN, "a line, an angle or an empty ROI. Draw areas or points")
                if not volume.holds(np.concatenate(roi.rings)):
                    raise Unusable(_OUTSIDE, "it extends beyond the slice")
                if roi.points:
                    points = np.concatenate(roi.rings).tolist()
                    yield from (Region(index, label, Point(x, y), here) for x, y in points)
                else:
                    yield Region(index, label, Polygon.of_rings(roi.rings), here)

    def _names_of_values(
        self, values: NDArray[np.int64], where: str, own: Mapping[int, str] | None = None
    ) -> dict[int, str]:
        found: dict[int, tuple[str, ...]] = {}
        for value in np.unique(values[values != 0]).tolist():
            numbers = () if self._labels.names is None else (str(value),)
            found[value] = ((own[value],) if own and own.get(value) else ()) + numbers
        return self._names(found, "value", where)

    def _names_of_numbers(self, own: Mapping[int, str], kind: str, where: str) -> dict[int, str]:
        return self._names({n: (label, str(n)) for n, label in own.items()}, kind, where)

    def _names(self, found: Mapping[int, tuple[str, ...]], kind: str, where: str) -> dict[int, str]:
        """Return the labels of a mask's values, without excluded values."""
        names: dict[int, str] = {}
        for value, candidates in found.items():
            label = self._labels.name_of(*candidates) if candidates else None
            if label is None or not (label or self._labels.names):  # only a table leaves out
                text = f"{kind} {value} has no name in the table of labels"
                self._problems.add("annotations without a known label", where, text)
            elif label:
                names[value] = label
        return names


def _only_one(found: Sequence[T], what: str) -> T:
    if len(found) != 1:
        text = f"{what} of this name: {len(found) or 'none'}. Name the file like its {what}"
        raise Unusable(_NO_SERIES, text)
    return found[0]


def _in_slice(contour: Contour, volume: Volume) -> tuple[int, Floats]:
    """Return the slice of a contour, and its points (N, 2) in pixels of the slice."""
    geometry = volume.geometry
    assert geometry is not None
    if not contour.closed:
        raise Unusable(_OPEN, "a point or an open line. Draw closed outlines")
    heights = contour.points @ geometry.normal
    if contour.sop_uid in volume.sop_uids:
        index = volume.sop_uids.index(contour.sop_uid)
    else:
        index = int(geometry.nearest_slice(heights[:1])[0])
    if index < 0 or np.abs(heights - geometry.heights[index]).max() > 0.501 * geometry.depth:
        raise Unusable(_NO_SLICE, "it does not lie within one slice of its series")
    points = volume.in_pixels(contour.points, index)
    if not volume.holds(points):
        raise Unusable(_OUTSIDE, "it extends beyond the slice")
    return index, points


def _slice_of_stack(position: int, volume: Volume) -> int:
    """Return the slice that ImageJ shows at a position of its stack, from 1; 0 is none."""
    if len(volume) == 1 and position < 2:
        return 0
    if volume.geometry is not None and not volume.instances:
        text = "ImageJ's order and direction of the slices are unknown for this format. Name the "
        raise Unusable(_NO_SLICE, f"{text}series' slices, in DICOM or PNG")
    if not volume.complete:
        text = "positions in a stack are uncertain where slices are missing"
        raise Unusable("annotations of an uncertain slice", text)
    if not 0 < position <= len(volume) or None in volume.instances:
        raise Unusable(_NO_SLICE, f"position {position} is not one of 1 to {len(volume)}")
    # ImageJ sorts DICOM by the instance number, and other files by name.
    keys = [number or 0 for number in volume.instances] or list(range(len(volume)))
    return sorted(range(len(volume)), key=keys.__getitem__)[position - 1]
