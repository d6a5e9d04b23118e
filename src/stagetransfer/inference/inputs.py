"""What there is to read: CT series, and patches as 8-bit pictures; with what can't be read."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stagetransfer.ct import dicom, nifti
from stagetransfer.ct.extraction import usable
from stagetransfer.ct.find_series import find_volumes, list_files
from stagetransfer.ct.png_slices import PngScale
from stagetransfer.ct.problems import Problems, relative
from stagetransfer.ct.roi_patches import Cut
from stagetransfer.ct.volume import Volume
from stagetransfer.errors import UserError

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_EIGHT_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
_TOO_LARGE = 4


@dataclass(frozen=True)
class Source:
    """An input.

    Attributes:
        root: the folder or file.
        volumes: all its series; `chosen` are the numbers of those to read.
        patches: 8-bit pictures, each one patch.
    """

    root: Path
    volumes: tuple[Volume, ...]
    chosen: tuple[int, ...]
    patches: tuple[Path, ...]

    def path(self, volume: Volume, index: int) -> Path:
        """The file of a slice."""
        return self.root if self.root.is_file() else self.root / volume.files[index]


def open_source(
    root: Path,
    cut: Cut,
    problems: Problems,
    *,
    series: str | None = None,
    by_folder: bool = False,
    scale: PngScale | None = None,
    leave: Collection[Path] = (),
) -> Source:
    """Finds series and patches; pixels are decoded later.

    Args:
        cut: how the training patches were cut.
        problems: takes what can't be read, a line each.
        series: UID, number, folder or file of the one series to read.
        by_folder, scale, leave: see `stagetransfer.ct.find_series.find_volumes`.

    Raises:
        UserError: there is nothing to read, or `series` names none or several.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; give a patch, a slice or a folder")
    found = list_files(root, {one.resolve() for one in leave})
    patches = [path for path in found if _is_patch(path)]
    others = [path for path in found if path not in set(patches)]
    volumes: tuple[Volume, ...] = ()
    if not patches or any(map(_may_be_slice, others)):
        volumes = find_volumes(
            root, problems, by_folder=by_folder, scale=scale, leave=[*leave, *patches]
        ).volumes
    kept = [path for path in patches if _fits(path, root, cut, problems)]
    if series is not None:
        chosen = [_named(volumes, series)]
        kept = []
    else:
        chosen = _one_number(volumes, problems)
    chosen = [number for number in chosen if usable(volumes[number], cut, problems)]
    return Source(root, volumes, tuple(chosen), tuple(kept))


def _is_patch(path: Path) -> bool:
    if path.suffix.lower() not in _PICTURES:
        return False
    try:
        with Image.open(path) as image:
            return image.mode in _EIGHT_BITS
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return False


def _may_be_slice(path: Path) -> bool:
    return path.suffix.lower() == ".png" or nifti.is_nifti(path) or dicom.is_dicom(path)


def _fits(path: Path, root: Path, cut: Cut, problems: Problems) -> bool:
    with Image.open(path) as image:
        width, height = image.size
    if max(width, height) <= _TOO_LARGE * cut.size:
        return True
    text = (
        f"an 8-bit picture of {width} x {height} pixels, no patch of {cut.size}; give a slice as "
        "DICOM, NIfTI or 16-bit PNG"
    )
    problems.add("pictures larger than a patch", relative(path, root), text)
    return False


def _named(volumes: Sequence[Volume], series: str) -> int:
    wanted = os.path.normpath(series)
    fits = [n for n, one in enumerate(volumes) if {series, wanted} & one.names]
    if len(fits) == 1:
        return fits[0]
    if fits:
        there = "; ".join(volumes[n].where for n in fits)
        raise UserError(
            f"--series {series}: {len(fits)} series are called so ({there}); give the UID or folder"
        )
    there = "; ".join(one.where for one in volumes) or "no series"
    raise UserError(f"--series {series}: no such series in the input; there are {there}")


def _one_number(volumes: Sequence[Volume], problems: Problems) -> list[int]:
    """The series whose number is theirs alone among their patient's."""
    kept = []
    for number, one in enumerate(volumes):
        for other in volumes:
            shared = one.names & other.names - _folders(one) - _folders(other)
            if other is not one and other.patient == one.patient and shared:
                text = f"has the series number {min(shared)} of another; choose one by --series"
                problems.add("series with the number of another", one.where, text)
                break
        else:
            kept.append(number)
    return kept


def _folders(volume: Volume) -> set[str]:
    return {os.path.dirname(file) for file in volume.files} | set(volume.files)
