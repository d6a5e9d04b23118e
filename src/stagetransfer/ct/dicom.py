"""DICOM CT series, in every transfer syntax that pydicom and its plugins decode.

Hounsfield units are the output of the modality LUT: stored value x rescale slope + intercept
(DICOM PS3.3, C.11.1.1.2). The photometric interpretation (MONOCHROME1 or 2) only tells a viewer
how to display these values, so it is ignored here.
"""

import warnings
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import MediaStorageDirectoryStorage

from stagetransfer.ct.dicom_file import read_checked
from stagetransfer.ct.input_problems import Problems, Unusable, first_line, relative_name
from stagetransfer.ct.volume import Floats, Geometry, UnreadableSlice, Volume, missing_slices

_REQUIRED = (
    "SeriesInstanceUID", "SOPInstanceUID", "Rows", "Columns", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient",
)  # fmt: skip


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix or by the letters DICM at byte 128."""
    if path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


@dataclass(frozen=True)
class SliceHeader:
    """The header of one file, as far as it is needed; its pixels are not yet decoded."""

    path: Path
    where: str
    patient: str
    series_uid: str
    series_number: str
    sop_uid: str
    instance: int | None
    shape: tuple[int, int]
    spacing: tuple[float, float]
    right: Floats
    down: Floats
    normal: Floats
    origin: Floats
    damage: str  # why the pixels cannot be read; "" if they can


def read_header(path: Path, root: Path, problems: Problems) -> SliceHeader | None:
    """Return the header of a file, or None after recording why the file is not a usable slice."""
    where = relative_name(path, root)
    header = None
    with problems.recording(where):
        try:
            data, damage = _read(path)
        except Exception as error:  # pydicom raises many types on damaged bytes
            text = f"not readable as DICOM ({first_line(error)})"
            raise Unusable("unreadable files", text) from error
        if data.get("SOPClassUID") == MediaStorageDirectoryStorage:
            return None
        try:
            _check_slice(data, damage)
            header = _header(path, where, data, damage)
        except (TypeError, ValueError, OverflowError) as error:
            text = f"bad geometry ({first_line(error)})"
            raise Unusable("files with an incomplete header", text) from error
        if damage:
            problems.add("truncated files", where, damage)
    return header


def _check_slice(data: Dataset, damage: str) -> None:
    """Raise Unusable if the file is not a CT slice, or its header is incomplete."""
    modality = str(data.get("Modality", "")) or "missing"
    if modality != "CT":
        shown = modality if modality.isalnum() and len(modality) <= 7 else "unknown"
        raise Unusable("files of another modality", f"modality {shown}, not CT")
    if "LOCALIZER" in list(data.get("ImageType") or ()):
        raise Unusable("localizers", "a localizer (scout view), not a slice")
    if str(data.get("BurnedInAnnotation") or "NO").upper() == "YES":
        raise Unusable("files with burned-in text", "text is burned into its pixels")
    if int(data.get("NumberOfFrames") or 1) > 1:
        text = "enhanced multi-frame CT. Convert it to one file per slice"
        raise Unusable("multi-frame files", text)
    missing = [name for name in _REQUIRED if data.get(name) in (None, "")]
    if missing:
        header = "the header of a truncated file" if damage else "the header"
        raise Unusable("files with an incomplete header", f"no {', '.join(missing)} in {header}")
    if not str(data.get("RescaleType") or "HU").startswith("HU"):
        raise Unusable("files not in Hounsfield units", "its rescale type is not HU")


def _read(path: Path) -> tuple[Dataset, str]:
    """Return the data set, and what is wrong with its pixels ("" if nothing is)."""
    # Values that violate the standard are common and harmless.
    with warnings.catch_warnings(action="ignore"):
        try:
            data: Dataset = read_checked(path)
        except InvalidDicomError:
            data = read_checked(path, force=True)  # some old archives omit the preamble
            if "SOPClassUID" not in data:
                raise
        if "PixelData" not in data:
            # pydicom discards the whole data set if a compressed element is truncated.
            header = read_checked(path, header_only=True, force=True)
            return header, "the pixel data is incomplete; the file is truncated"
    return data, _pixel_damage(data)


def _pixel_damage(data: Dataset) -> str:
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        return "no transfer syntax in the header; the pixels cannot be decoded"
    if syntax.is_encapsulated:
        return ""
    try:
        expected = int(data.Rows) * int(data.Columns) * int(data.BitsAllocated) // 8
    except (AttributeError, TypeError, ValueError):
        return "no Rows, Columns or BitsAllocated in the header; the pixels cannot be decoded"
    found = len(data.PixelData)
    short = f"{found} of {expected} bytes of pixels; the file is truncated"
    return short if found < expected else ""


def _header(path: Path, where: str, data: Dataset, damage: str) -> SliceHeader:
    cosines = np.array([float(x) for x in data.ImageOrientationPatient])
    origin = np.array([float(x) for x in data.ImagePositionPatient])
    row, column = (float(x) for x in data.PixelSpacing)
    if cosines.shape != (6,) or origin.shape != (3,) or not np.isfinite([*cosines, *origin]).all():
        raise ValueError("ImageOrientationPatient or ImagePositionPatient is not all numbers")
    right, down = cosines[:3], cosines[3:]
    if not np.allclose([right @ right, down @ down, right @ down], [1, 1, 0], atol=1e-2):
        raise ValueError("the row and column directions are not at right angles")
    if not (0 < row < 100 and 0 < column < 100):
        raise ValueError("PixelSpacing is not a length")
    right, down = right / np.linalg.norm(right), down / np.linalg.norm(down)
    number, instance = data.get("SeriesNumber"), data.get("InstanceNumber")
    return SliceHeader(
        path=path,
        where=where,
        patient=str(data.get("PatientID") or "").strip(),
        series_uid=str(data.SeriesInstanceUID),
        series_number="" if number is None else str(number),
        sop_uid=str(data.SOPInstanceUID),
        instance=None if instance in (None, "") else int(instance),
        shape=(int(data.Rows), int(data.Columns)),
        spacing=(row, column),
        right=right,
        down=down,
        normal=np.cross(right, down),
        origin=origin,
        damage=damage,
    )


def decode_hounsfield(path: Path) -> Floats:
    """Return the pixels (H, W) of a file in Hounsfield units, or raise UnreadableSlice."""
    try:
        with warnings.catch_warnings(action="ignore"):
            data = read_checked(path, force=True)
            stored = data.pixel_array  # without the bits above BitsStored, and with the sign
            if stored.ndim != 2:
                raise ValueError("not a grey slice")
            if data.get("ModalityLUTSequence"):
                return np.asarray(apply_modality_lut(stored, data), dtype=np.float64)
    except Exception as error:  # each plugin has its own exceptions
        raise UnreadableSlice(f"the pixels cannot be decoded ({first_line(error)})") from error
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    return stored.astype(np.float64) * float(1 if slope is None else slope) + float(intercept or 0)


def build_volumes(
    headers: Sequence[SliceHeader], by_folder: bool, damaged: Collection[str], problems: Problems
) -> list[Volume]:
    """Return the series that the slices form; an unusable series is recorded and left out.

    `damaged` are folders with files whose header could not be read: their series may lack slices.
    For `by_folder`, see `find_series`.
    """
    if by_folder:
        headers = [replace(one, patient=folder_patient(one.where)) for one in headers]
    series: defaultdict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        series[header.series_uid].append(header)
    volumes = []
    for group in series.values():
        # The first file identifies the series in messages, as a folder may hold several series.
        where = f"series of {min(one.where for one in group)} ({len(group)} files)"
        with problems.recording(where):
            volumes.append(_volume(group, where, damaged, problems))
    return volumes


def _volume(
    group: list[SliceHeader], where: str, damaged: Collection[str], problems: Problems
) -> Volume:
    _check_series(group)
    first = group[0]
    folders = {str(PurePosixPath(one.where).parent) for one in group}
    kept = _one_per_position(group, problems)
    origins = np.array([one.origin for one in kept])
    gap, missing = missing_slices(origins @ first.normal)
    if missing:
        text = f"slices missing between the others: {missing}"
        problems.add("missing slices", where, text, missing)

    def read_slice(index: int) -> Floats:
        if kept[index].damage:
            raise UnreadableSlice(kept[index].damage)
        return decode_hounsfield(kept[index].path)

    return Volume(
        where=where,
        patient=first.patient,
        identity=first.series_uid,
        names=frozenset([first.series_uid, first.series_number, *folders]) - {"", "."},
        files=tuple(one.where for one in kept),
        shape=first.shape,
        spacing=first.spacing,
        geometry=Geometry(origins, first.right, first.down, gap),
        read_slice=read_slice,
        instances=tuple(one.instance for one in kept),
        complete=not missing and folders.isdisjoint(damaged),
    )


def _check_series(group: list[SliceHeader]) -> None:
    """Raise Unusable if the slices are not one axial series of one patient."""
    first = group[0]
    several = any(one.patient != first.patient for one in group)
    if several or not first.patient:
        text = "files of several patients" if several else "no PatientID"
        raise Unusable("series without one patient", f"{text}. Consider --patient folder")
    if any(np.abs(one.normal - first.normal).max() > 1e-2 for one in group):
        raise Unusable("series of mixed orientations", "slices of different orientations")
    if any(
        one.shape != first.shape
        or not np.allclose(one.spacing, first.spacing, rtol=1e-3)
        or np.abs(one.right - first.right).max() > 1e-2
        for one in group
    ):
        raise Unusable("series of mixed grids", "slices of different sizes or pixel spacings")
    if abs(first.normal[2]) < 0.8:
        raise Unusable("series that are not axial", "its slices are not axial")


def _one_per_position(group: list[SliceHeader], problems: Problems) -> list[SliceHeader]:
    """Sort along the normal; of two slices at one position, keep the first by name."""
    kept: list[SliceHeader] = []
    for one in sorted(group, key=lambda one: (float(one.origin @ group[0].normal), one.where)):
        if kept and abs(float((one.origin - kept[-1].origin) @ one.normal)) < 1e-3:
            text = "the same slice" if one.sop_uid == kept[-1].sop_uid else "at the same position"
            problems.add("slices at one place", one.where, f"{text} as {kept[-1].where}")
        else:
            kept.append(one)
    return kept


def folder_patient(where: str) -> str:
    """Return the first folder below the input, or the file name without suffixes if none."""
    parts = PurePosixPath(where).parts
    return parts[0] if len(parts) > 1 else parts[0].split(".")[0]
