"""From CT series and annotations to a labelled set of ROI patches.

    extraction = collect(Path("scans"), Path("rois.csv"), Cut(spacing=0.6))
    write(extraction, Path("patches"), Path("patches.salt"))

`write` leaves labels.csv (file, label, patient, series, slice, x, y, spacing and, where the
annotations have it, split), the layout `csv` of a domain; duplicates.csv; summary.json; and
<patient>/<series>-<slice>-<number>.png. Patients and series have salted pseudonyms; nothing else
of a header is kept but pixels and spacing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagetransfer.ct.annotation_table import TableAnnotations
from stagetransfer.ct.find_series import find_volumes
from stagetransfer.ct.label_masks import MaskAnnotations
from stagetransfer.ct.png_slices import PngScale
from stagetransfer.ct.problems import Problems
from stagetransfer.ct.regions import Annotations, Labels, Point, Region, read_labels
from stagetransfer.ct.roi_patches import Cut, Raster, corners, grey
from stagetransfer.ct.volume import UnreadableSlice, Volume
from stagetransfer.errors import UserError


@dataclass(frozen=True)
class Patch:
    """One patch; identities are still the header's own.

    Attributes:
        image: (size, size) grey values.
        patient, series: see `Volume`; secret.
        index: the slice, from 0.
        x, y: the patch's middle in pixels of the stored slice.
        spacing: mm from pixel to pixel, None if unknown.
        corner: (top, left) in pixels of the raster that it was cut from.
    """

    image: NDArray[np.uint8]
    label: str
    patient: str
    series: str
    index: int
    x: float
    y: float
    spacing: float | None
    split: str | None
    corner: tuple[int, int]


@dataclass(frozen=True)
class Likeness:
    """Two patches (by their numbers) that share pixels; the same number: one was dropped."""

    kind: str  # "same place", "same pixels" or "classes overlap"
    first: int
    second: int
    share: float


@dataclass(frozen=True)
class Extraction:
    """Patches in memory, and all that is to be said of them.

    Attributes:
        patches: by series, slice, row and column.
        likenesses: duplicates, and overlaps between classes.
        problems: what was left out.
        empty: annotations that hold no patch, being smaller than size and coverage ask.
        unannotated: series that no annotation names.
        others: files below the input that are no images.
    """

    cut: Cut
    patches: tuple[Patch, ...]
    likenesses: tuple[Likeness, ...]
    problems: Problems
    empty: tuple[str, ...]
    unannotated: int
    others: tuple[str, ...]


def collect(
    root: Path,
    annotations: Path,
    cut: Cut,
    *,
    labels: Path | None = None,
    by_folder: bool = False,
    scale: PngScale | None = None,
) -> Extraction:
    """Reads series and annotations and cuts the patches; writes nothing.

    Args:
        root: folder or file of DICOM, NIfTI and 16-bit PNG.
        annotations: a CSV (see `stagetransfer.ct.annotation_table`), or a mask or folder of masks
            (see `stagetransfer.ct.label_masks`); it may lie below `root`.
        labels: CSV of value,label that names the values of masks.
        by_folder: patients are told apart by folder (see `find_volumes`).
        scale: the meaning of PNG values.

    Raises:
        UserError: a file or folder isn't there or isn't of its kind. What is wrong with single
            series, files and annotations is gathered in `problems` instead.
    """
    if not annotations.exists():
        raise UserError(f"{annotations}: no such file or folder of annotations")
    if annotations.resolve() == root.resolve():
        raise UserError(f"{root}: is input and annotations at once; keep masks in their own folder")
    names = Labels() if labels is None else read_labels(labels)
    problems = Problems()
    leave = [annotations, *([] if labels is None else [labels])]
    found = find_volumes(root, problems, by_folder=by_folder, scale=scale, leave=leave)
    kind = TableAnnotations if annotations.suffix.lower() == ".csv" else MaskAnnotations
    marked: Annotations = kind(annotations, found.volumes, names, problems)
    cutter = _Cutter(cut, problems)
    unannotated = 0
    for number, volume in enumerate(found.volumes):
        if usable(volume, cut, problems):
            unannotated += not cutter.add(volume, marked.of(number))
    patches = tuple(cutter.patches)
    _check_splits(patches, problems)
    likenesses = (*cutter.dropped, *_overlaps(patches), *_same_pixels(patches))
    return Extraction(
        cut, patches, likenesses, problems, tuple(cutter.empty), unannotated, found.others
    )


def usable(volume: Volume, cut: Cut, problems: Problems) -> bool:
    """Whether patches of this kind can be cut from the series; if not, it is noted why."""
    if cut.spacing is not None and volume.spacing is None:
        text = "no pixel spacing is known; give --png-spacing, or leave out --spacing and --field"
        problems.add("series without spacing", volume.where, text)
        return False
    if cut.spacing is None and not volume.is_square:
        assert volume.spacing is not None
        sides = " x ".join(f"{side:g}" for side in volume.spacing)
        text = f"pixels of {sides} mm are not square; give --spacing or --field"
        problems.add("series of non-square pixels", volume.where, text)
        return False
    return True


class _Cutter:
    """Cuts the patches of one series after another."""

    def __init__(self, cut: Cut, problems: Problems) -> None:
        self.cut = cut
        self.problems = problems
        self.patches: list[Patch] = []
        self.dropped: list[Likeness] = []
        self.empty: list[str] = []

    def add(self, volume: Volume, regions: Iterable[Region]) -> bool:
        """Cuts a series' patches; whether it has an annotation."""
        raster = Raster.of(volume.shape, volume.spacing, self.cut.spacing)
        places: defaultdict[int, list[tuple[int, int, str, str | None]]] = defaultdict(list)
        counts: Counter[int] = Counter()
        for region in regions:
            counts[region.index] += 1
            found = corners(region, raster, self.cut)
            if found is None:
                assert isinstance(region.shape, Point)
                text = f"the patch of {self.cut.size} pixels around it leaves the slice"
                self.problems.add("annotations outside the image", region.where, text)
            elif not found:
                self.empty.append(region.where)
            for top, left in found or []:
                places[region.index].append((top, left, region.label, region.split))
        for index in sorted(places):
            self._slice(volume, raster, index, places[index], counts[index])
        return bool(counts)

    def _slice(
        self,
        volume: Volume,
        raster: Raster,
        index: int,
        places: list[tuple[int, int, str, str | None]],
        regions: int,
    ) -> None:
        try:
            plane = grey(raster.resample(volume.plane(index)), self.cut)
        except UnreadableSlice as error:
            text = f"{error}; it has {regions} annotations"
            self.problems.add(
                "annotations on unreadable slices", volume.files[index], text, regions
            )
            return
        size = self.cut.size
        first: dict[tuple[int, int, str], int] = {}
        for top, left, label, split in sorted(places, key=lambda place: place[:3]):
            number = first.setdefault((top, left, label), len(self.patches))
            if number < len(self.patches):
                self.dropped.append(Likeness("same place", number, number, 1.0))
                continue
            middle = np.array([[left + (size - 1) / 2, top + (size - 1) / 2]])
            x, y = raster.to_slice(middle)[0].tolist()
            self.patches.append(
                Patch(
                    image=plane[top : top + size, left : left + size].copy(),
                    label=label,
                    patient=volume.patient,
                    series=volume.identity,
                    index=index,
                    x=x,
                    y=y,
                    spacing=self.cut.spacing or (volume.spacing[0] if volume.spacing else None),
                    split=split,
                    corner=(top, left),
                )
            )


def _check_splits(patches: Iterable[Patch], problems: Problems) -> None:
    """A patient on both sides of a split is what no evaluation survives: never only left out."""
    splits: defaultdict[str, set[str | None]] = defaultdict(set)
    for patch in patches:
        splits[patch.patient].add(patch.split)
    mixed = sum(len(found) > 1 for found in splits.values())
    if mixed:
        raise UserError(
            f"column split: {mixed} patients have rows in several splits, or rows with and without "
            "one; give each patient one split"
        )


def _overlaps(patches: tuple[Patch, ...]) -> list[Likeness]:
    """Patches of different classes that share pixels of one slice."""
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
                found.append(Likeness("classes overlap", numbers[i], numbers[i + 1 + j], share))
    return found


def _same_pixels(patches: tuple[Patch, ...]) -> list[Likeness]:
    """Patches of different places with equal pixels, each with the first of its kind."""
    first: dict[bytes, int] = {}
    found = []
    for number, patch in enumerate(patches):
        other = first.setdefault(patch.image.tobytes(), number)
        before = patches[other]
        here = (patch.series, patch.index, patch.corner)
        if other != number and (before.series, before.index, before.corner) != here:
            found.append(Likeness("same pixels", other, number, 1.0))
    return found
