"""The input of a prediction: CT series, and patches as 8-bit images."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from stagetransfer.ct import PatchSettings, Problems, Volume
from stagetransfer.ct.dicom_header import is_dicom
from stagetransfer.ct.find_series import ReadingOptions, check_patients, find_series, list_files
from stagetransfer.ct.input_problems import relative_name
from stagetransfer.ct.patch_extraction import check_spacing
from stagetransfer.ct.png_slices import DAMAGED, is_slice
from stagetransfer.ct.volume_files import is_volume_file
from stagetransfer.errors import UserError
from stagetransfer.files import open_image
from stagetransfer.layouts.folder_walk import is_image

_MODES_8_BIT = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
_MAX_WIDTH_ERROR = 0.2  # of a window, relative to the training patches
_MAX_SCALE = 4  # an image more than four times as wide as a patch is not a patch


@dataclass(frozen=True)
class PredictionInput:
    """What a folder or file holds: all its series, and 8-bit images that are one patch each.

    `chosen` are the numbers of the series to read. `previews` is the number of 8-bit images beside
    DICOM or NIfTI files, which are no patches.
    """

    root: Path
    volumes: tuple[Volume, ...]
    chosen: tuple[int, ...]
    patches: tuple[Path, ...]
    previews: int = 0

    def path(self, volume: Volume, index: int) -> Path:
        """Return the file of a slice."""
        return self.root if self.root.is_file() else self.root / volume.files[index]


def find_input(
    root: Path,
    settings: PatchSettings,
    problems: Problems,
    *,
    series: str | None = None,
    exclude: Collection[Path] = (),
    **reading: Unpack[ReadingOptions],
) -> PredictionInput:
    """Find series and patches; their pixels are decoded later.

    UserError if the network was trained on patches of three slices.

    Args:
        settings: how the training patches were made.
        problems: receives what cannot be read.
        series: UID, number, folder or file of the only series to read.
        exclude, reading: see `stagetransfer.ct.find_series.find_series`.
    """
    if settings.neighbours:
        raise UserError(
            f"{root}: the run was trained on patches of three slices (extract --neighbours 1), and "
            "predict reads single slices. Use a run that was trained on single slices"
        )
    if not root.exists():
        raise UserError(f"{root}: no such file or folder. Give a patch, a slice or a folder")
    files = list_files(root, exclude)
    sizes = {path: size for path in files if (size := _size_of_8_bit_image(path))}
    others = [path for path in files if path not in sizes]
    scans = {path.parent for path in others if _is_scan(path)} if sizes else ()
    patches = {path: size for path, size in sizes.items() if path.parent not in scans}
    lost = _unreadable_patches(others, scans) if sizes else []
    for path in lost:
        text = "no image of 8 bits that can be read. Replace or remove it"
        problems.add("unreadable files", relative_name(path, root), text)
    volumes: tuple[Volume, ...] = ()
    rest = {*others}.difference(lost)
    if not sizes or any(path.suffix.lower() == ".png" or _is_scan(path) for path in rest):
        volumes, _ = find_series(root, problems, exclude=[*exclude, *sizes, *lost], **reading)
    kept = []
    for path, (width, height) in patches.items():
        if max(width, height) <= _MAX_SCALE * settings.size:
            kept.append(path)
        else:
            text = f"an 8-bit image of {width} x {height} pixels, not a patch of {settings.size}. "
            text += "Give slices as DICOM, NIfTI or 16-bit PNG"
            problems.add("pictures larger than a patch", relative_name(path, root), text)
    if series is not None:
        chosen, kept = [_find_named(volumes, series)], []
    else:
        chosen = _uniquely_numbered(volumes, problems)
    chosen = [number for number in chosen if check_spacing(volumes[number], settings, problems)]
    check_patients(root, [volumes[number] for number in chosen])
    return PredictionInput(root, volumes, tuple(chosen), tuple(kept), len(sizes) - len(patches))


def check_widths(
    source: PredictionInput, settings: PatchSettings, trained: float | None,
    report: Callable[[str], None],
) -> int:  # fmt: skip
    """Report the series whose windows are wider or narrower than training patches; count them.

    Args:
        settings: how windows are taken from a slice.
        trained: width of the training patches in mm; None if unknown.
    """
    others = 0
    for number in source.chosen:
        spacing, where = source.volumes[number].spacing, f"series {number + 1}"
        pixel = settings.spacing or (spacing[1] if spacing else None)
        if pixel is None or trained is None:
            whose = "its pixels" if pixel is None else "the training patches"
            report(f"note: {where}: the width of {whose} in mm is unknown, so scales may differ")
        elif abs((width := pixel * settings.size) / trained - 1) > _MAX_WIDTH_ERROR:
            others += 1
            report(
                f"warning: {where}: windows are {width:.1f} mm wide, but training patches "
                f"{trained:.1f} mm. Give --field {trained:.3g}"
            )
    return others


def _size_of_8_bit_image(path: Path) -> tuple[int, int] | None:
    """Return width and height; None if the file is no such image."""
    if not is_image(path.name):
        return None
    try:
        with open_image(path) as image:
            return image.size if image.mode in _MODES_8_BIT else None
    except DAMAGED:
        return None


def _unreadable_patches(others: Sequence[Path], scans: Collection[Path]) -> list[Path]:
    """Return the images among `others`, none of 8 bits, that lie in no folder of slices."""
    slices = {path.parent for path in others if is_slice(path)}.union(scans)
    return [path for path in others if is_image(path.name) and path.parent not in slices]


def _is_scan(path: Path) -> bool:
    return is_volume_file(path) or is_dicom(path)


def _find_named(volumes: Sequence[Volume], series: str) -> int:
    names = {series, os.path.normpath(series)}
    found = [number for number, one in enumerate(volumes) if names & one.names]
    if len(found) == 1:
        return found[0]
    if found:
        matches = "; ".join(volumes[number].where for number in found)
        raise UserError(
            f"--series {series}: {len(found)} series have this name ({matches}). "
            "Give the UID or folder"
        )
    existing = "; ".join(one.where for one in volumes) or "no series"
    raise UserError(f"--series {series}: no such series in the input. There are: {existing}")


def _uniquely_numbered(volumes: Sequence[Volume], problems: Problems) -> list[int]:
    """Return the series that share their number with no other series of the same patient."""
    own = [one.names.difference(one.files, map(os.path.dirname, one.files)) for one in volumes]
    of = [one.patient for one in volumes]
    counts = Counter((of[number], name) for number, names in enumerate(own) for name in names)
    kept = []
    for number, names in enumerate(own):
        if shared := [name for name in names if counts[of[number], name] > 1]:
            text = f"another series has the number {min(shared)} too. Choose one with --series"
            problems.add("series with the number of another", volumes[number].where, text)
        else:
            kept.append(number)
    return kept
