"""From CT series and annotations to a labelled set of ROI patches.

    extraction = extract_patches(Path("scans"), Path("rois.csv"), PatchSettings(spacing=0.6))
    write_dataset(extraction, Path("patches"), Path("patches.salt"))

`write_dataset` writes labels.csv (file, label, patient, series, slice, x, y, spacing and, if the
annotations have it, split), which is the layout `csv` of a domain; duplicates.csv; summary.json;
and <patient>/<series>-<slice>-<number>.png. Patients and series get salted pseudonyms. Nothing
else of a header is kept except pixels and spacing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from stagetransfer.csv_records import check_not_missing, check_spellings
from stagetransfer.ct.annotations import Region
from stagetransfer.ct.find_series import ReadingOptions, check_patients, find_series
from stagetransfer.ct.input_problems import Problems
from stagetransfer.ct.label_table import LabelTable, read_label_table
from stagetransfer.ct.mask_annotations import open_annotations
from stagetransfer.ct.roi_patches import PatchSettings, Raster, apply_window, patch_corners
from stagetransfer.ct.volume import Volume
from stagetransfer.errors import UserError, is_shown
from stagetransfer.formats.unusable import Unreadable


@dataclass(frozen=True)
class Patch:
    """One patch; patient and series are not yet replaced by pseudonyms."""

    image: NDArray[np.uint8]  # (size, size), or with neighbours (size, size, 3)
    label: str
    patient: str
    series: str
    index: int  # of its slice
    x: float  # its centre in pixels of the stored slice
    y: float
    spacing: float | None  # in mm, None if unknown
    split: str | None
    corner: tuple[int, int]  # top, left in pixels of the raster


@dataclass(frozen=True)
class Duplicate:
    """Two patches that share pixels, by their numbers; equal numbers if one patch was dropped."""

    kind: str  # "same place", "same pixels" or "classes overlap"
    first: int
    second: int
    share: float


_Place = tuple[int, int, str, str | None]  # top, left, label, split


@dataclass
class Extraction:
    """The patches in memory, and what the summary reports about them.

    `repeated_neighbours` counts the patches at an end of a series, whose own slice takes the place
    of a neighbour.
    """

    settings: PatchSettings
    problems: Problems = field(default_factory=Problems)  # what was left out
    patches: list[Patch] = field(default_factory=list)  # by series, slice, row and column
    duplicates: list[Duplicate] = field(default_factory=list)
    without_patch: list[str] = field(default_factory=list)  # too small for `size` and `coverage`
    unannotated: int = 0  # series without annotations
    other_files: int = 0  # files below the input that are not images
    repeated_neighbours: int = 0

    def add(self, volume: Volume, regions: Iterable[Region]) -> None:
        """Take the patches of a series."""
        raster = Raster.with_spacing(volume.shape, volume.spacing, self.settings.spacing)
        places: defaultdict[int, list[_Place]] = defaultdict(list)
        counts: Counter[int] = Counter()
        for region in regions:
            counts[region.index] += 1
            if not is_shown(region.label) or len(region.label) > 200:
                text = "its label is too long, or has a line break or a character that is not shown"
                self.problems.add("annotations with an unusable label", region.where, text)
                continue
            check_not_missing(region.where, {"label": region.label})
            corners = patch_corners(region, raster, self.settings)
            if corners is None:
                text = f"the patch of {self.settings.size} pixels around it leaves the slice"
                self.problems.add("annotations outside the image", region.where, text)
            elif not corners:
                self.without_patch.append(region.where)
            for top, left in corners or []:
                places[region.index].append((top, left, region.label, region.split))
        for index in sorted(places):
            self._add_slice(volume, raster, index, places[index], counts[index])
        self.unannotated += not counts

    def _add_slice(
        self, volume: Volume, raster: Raster, index: int, places: list[_Place], regions: int
    ) -> None:
        reach, last = self.settings.neighbours, len(volume.files) - 1
        near = [min(max(i, 0), last) for i in range(index - reach, index + reach + 1)]
        try:
            planes = [
                apply_window(raster.resample(volume.read_slice(i)), self.settings) for i in near
            ]
            grey = np.stack(planes, axis=-1) if reach else planes[0]
        except Unreadable as error:
            kind = "annotations on unreadable slices"
            text = f"{error}; the slice has {regions} annotations"
            self.problems.add(kind, volume.files[index], text, regions)
            return
        size = self.settings.size
        spacing = self.settings.spacing or (volume.spacing[0] if volume.spacing else None)
        numbers: dict[tuple[int, int, str], int] = {}
        for top, left, label, split in sorted(places, key=lambda place: place[:3]):
            number = numbers.setdefault((top, left, label), len(self.patches))
            if number < len(self.patches):
                self.duplicates.append(Duplicate("same place", number, number, 1.0))
                continue
            image = grey[top : top + size, left : left + size].copy()
            x, y = raster.to_slice(np.array([left, top]) + (size - 1) / 2).tolist()
            self.repeated_neighbours += len(set(near)) < len(near)
            patient, series = volume.patient, volume.identity
            self.patches.append(
                Patch(image, label, patient, series, index, x, y, spacing, split, (top, left))
            )


def extract_patches(
    root: Path,
    annotations: Path,
    settings: PatchSettings,
    *,
    labels: Path | None = None,
    **reading: Unpack[ReadingOptions],
) -> Extraction:
    """Read series and annotations and take the patches; nothing is written.

    A missing or wrong file is a UserError. Problems of single series, files and annotations are
    collected in `problems` instead.

    Args:
        root: folder or file of DICOM, NIfTI, MetaImage, NRRD and 16-bit PNG.
        annotations: a CSV (see `stagetransfer.ct.csv_annotations`), or another file or folder (see
            `stagetransfer.ct.mask_annotations`); it may lie below `root`.
        labels: CSV of value,label that names the values of masks.
        reading: see `find_series`.
    """
    if not annotations.exists():
        raise UserError(f"{annotations}: no such file or folder of annotations")
    if annotations.resolve() == root.resolve():
        raise UserError(
            f"{root}: given both as input and as annotations. Keep masks in their own folder"
        )
    names = LabelTable() if labels is None else read_label_table(labels)
    extraction = Extraction(settings)
    problems = extraction.problems
    exclude = [annotations, *([] if labels is None else [labels])]
    volumes, extraction.other_files = find_series(root, problems, exclude=exclude, **reading)
    check_patients(root, volumes)
    annotated = open_annotations(annotations, volumes, names, problems)
    for number, volume in enumerate(volumes):
        if check_spacing(volume, settings, problems):
            extraction.add(volume, annotated.regions_of(number))
    _check_splits(extraction.patches)
    check_spellings(str(annotations), "labels", (patch.label for patch in extraction.patches))
    extraction.duplicates += _class_overlaps(extraction.patches)
    extraction.duplicates += _same_pixels(extraction.patches)
    return extraction


def check_spacing(volume: Volume, settings: PatchSettings, problems: Problems) -> bool:
    """Return whether the series' pixel spacing allows such patches; if not, record a problem."""
    if volume.spacing is None:
        if settings.spacing is None:
            return True
        text = "the pixel spacing is unknown. Give --png-spacing, or omit --spacing and --field"
        problems.add("series without spacing", volume.where, text)
        return False
    row, column = volume.spacing
    if settings.spacing is not None or abs(row / column - 1) <= 1e-3:
        return True
    text = f"pixels of {row:g} x {column:g} mm are not square. Give --spacing or --field"
    problems.add("series of non-square pixels", volume.where, text)
    return False


def _check_splits(patches: Iterable[Patch]) -> None:
    """Raise an error if a patient has patches in two splits, which `--skip-bad` never allows."""
    splits: defaultdict[str, set[str | None]] = defaultdict(set)
    for patch in patches:
        splits[patch.patient].add(patch.split)
    mixed = sum(len(found) > 1 for found in splits.values())
    if mixed:
        raise UserError(
            f"column split: {mixed} patients have rows in several splits, or rows with and without "
            "a split. Give each patient one split"
        )


def _class_overlaps(patches: Sequence[Patch]) -> list[Duplicate]:
    """Return the pairs of patches of different classes that share pixels of one slice."""
    slices: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for number, patch in enumerate(patches):
        slices[patch.series, patch.index].append(number)
    found = []
    for numbers in slices.values():
        corner = np.array([patches[n].corner for n in numbers])
        label = np.unique([patches[n].label for n in numbers], return_inverse=True)[1]
        side = patches[numbers[0]].image.shape[0]
        for i in range(len(numbers) - 1):
            shared = np.clip(side - np.abs(corner[i + 1 :] - corner[i]), 0, None).prod(axis=1)
            for j in np.flatnonzero((shared > 0) & (label[i + 1 :] != label[i])).tolist():
                share = float(shared[j]) / side**2
                found.append(Duplicate("classes overlap", numbers[i], numbers[i + 1 + j], share))
    return found


def _same_pixels(patches: Sequence[Patch]) -> list[Duplicate]:
    """Return the patches with the same pixels as an earlier patch at a different place."""
    first: dict[bytes, int] = {}
    found = []
    for number, one in enumerate(patches):
        other = first.setdefault(one.image.tobytes(), number)
        same = patches[other]
        if (same.series, same.index, same.corner) != (one.series, one.index, one.corner):
            found.append(Duplicate("same pixels", other, number, 1.0))
    return found
