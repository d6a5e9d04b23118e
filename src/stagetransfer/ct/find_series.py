"""Finding the CT series below a folder: DICOM, volumes in one file, 16-bit PNG; also mixed."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from stagetransfer.csv_records import two_spellings
from stagetransfer.ct import dicom, dicom_header, png_slices
from stagetransfer.ct.input_problems import Problems, relative_name
from stagetransfer.ct.png_slices import PngScale
from stagetransfer.ct.volume import Volume
from stagetransfer.ct.volume_files import is_volume_file, read_volume
from stagetransfer.errors import UserError
from stagetransfer.formats.metaimage_nrrd import is_voxel_file


class ReadingOptions(TypedDict, total=False):
    """How files are read; see `find_series`."""

    patient_of: Callable[[str], str] | None
    scale: PngScale | None
    unspecified_is_hu: bool


def find_series(
    root: Path,
    problems: Problems,
    *,
    patient_of: Callable[[str], str] | None = None,
    scale: PngScale | None = None,
    exclude: Collection[Path] = (),
    unspecified_is_hu: bool = False,
) -> tuple[tuple[Volume, ...], int]:
    """Return every CT series in a file or folder, and the number of files that are not images.

    The series are ordered by their first file. Pixels of DICOM and PNG are decoded later.

    Args:
        problems: receives the files and series that cannot be used.
        patient_of: returns the patient of a file, given its name below `root`. By default, DICOM
            patients are identified by their PatientID, and those of other files by the first
            folder below `root` (by the file name if the file lies directly in `root`).
        scale: the meaning of PNG values; required if there are PNG files. PNG files of 8 bits
            beside other series are previews, and not images of a series.
        exclude: files and folders that are not input, such as the annotations.
        unspecified_is_hu: whether DICOM values of the unit "US" (unspecified) are HU.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder. Give the folder that holds the series")
    headers: list[dicom_header.SliceHeader] = []
    volumes: list[Volume] = []
    png_files: list[Path] = []
    dicom_files = other_files = 0
    damaged: set[str] = set()
    problems_before = len(problems.lines)
    for path in list_files(root, exclude):
        where = relative_name(path, root)
        if is_volume_file(path):
            with problems.recording(where):
                volumes.append(read_volume(path, where, problems))
        elif path.suffix.lower() == ".png":
            png_files.append(path)
        elif is_voxel_file(path):
            continue
        elif dicom_header.is_dicom(path):
            dicom_files += 1
            lines, unreadable = len(problems.lines), problems.counts["unreadable files"]
            found = dicom_header.read_headers(
                path, root, problems, unspecified_is_hu=unspecified_is_hu
            )
            headers += found
            other_files += not found and len(problems.lines) == lines  # an index of other files
            if problems.counts["unreadable files"] > unreadable:
                damaged.add(os.path.dirname(where) or ".")
        else:
            other_files += 1
    if headers or volumes:
        found_png = len(png_files)
        png_files = [path for path in png_files if not png_slices.is_preview(path)]
        other_files += found_png - len(png_files)
    if png_files:
        if scale is None:
            raise UserError(
                f"{png_files[0]}: a PNG does not contain the scale of its Hounsfield units. "
                "Give --png-rescale SLOPE/INTERCEPT, for example 1/-1024"
            )
        volumes += png_slices.read_volumes(png_files, root, scale, problems)
    # These files do not contain the patient.
    of_file = patient_of or dicom.folder_patient
    volumes = [replace(one, patient=of_file(one.files[0])) for one in volumes]
    volumes += dicom.build_volumes(headers, patient_of, damaged, problems)
    if not volumes and len(problems.lines) == problems_before:
        raise UserError(
            f"{root}: holds no DICOM, NIfTI, MetaImage, NRRD or PNG file of a CT series"
        )
    if scale is not None and not png_files:
        raise UserError("--png-rescale: the input has no 16-bit PNG. Leave it out")
    if unspecified_is_hu and not dicom_files:
        raise UserError("--unspecified-hu: the input has no DICOM file. Leave it out")
    return tuple(sorted(volumes, key=lambda one: one.files[0])), other_files


def check_patients(root: Path, volumes: Sequence[Volume]) -> None:
    """Raise UserError if the series have two spellings of one patient, such as "P 1" and "p 1".

    The message names the series in place of the patients, whose names it must not show.
    """
    if found := two_spellings(one.patient for one in volumes):
        first, second = (next(o.where for o in volumes if o.patient == name) for name in found)
        raise UserError(
            f"{root}: the patients of {first} and of {second} look like two spellings of one "
            "(case, blanks, leading zeros). Correct the PatientID or folder, or choose --patient"
        )


def list_files(root: Path, exclude: Collection[Path]) -> list[Path]:
    """Return all files except hidden and excluded ones, in the same order on every machine."""
    if root.is_file():
        return [root]
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: a pipe or a device, not a file. Give a file or a folder")
    excluded = {path.resolve() for path in exclude}
    found: list[Path] = []

    def wanted(folder: Path, names: list[str]) -> list[str]:
        visible = (name for name in names if not name.startswith("."))
        return [name for name in visible if (folder / name).resolve() not in excluded]

    for folder, subfolders, names in os.walk(root, onerror=_refuse):
        here = Path(folder)
        subfolders[:] = wanted(here, subfolders)
        found += [here / name for name in wanted(here, names)]
    for path in found:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: a pipe or a device, not a file. Remove it from the input")
    return sorted(found, key=lambda path: relative_name(path, root))


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}). Check its permissions")
