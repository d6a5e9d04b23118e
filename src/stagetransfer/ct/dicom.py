"""DICOM CT series, in any transfer syntax that pydicom and its plugins decode.

Hounsfield units are the output of the modality LUT: stored value x rescale slope + intercept
(DICOM PS3.3, C.11.1.1.2). The photometric interpretation (MONOCHROME1 or 2) says only how a
viewer maps those to light, so it changes nothing here.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut

from stagetransfer.ct.problems import Problems, reason, relative
from stagetransfer.ct.volume import Floats, Geometry, UnreadableSlice, Volume, missing_slices

SUFFIXES = (".dcm", ".dicom", ".ima")
_NEEDED = (
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
)


def is_dicom(path: Path) -> bool:
    """By the four letters at byte 128, or by the suffix where an old file lacks them."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


@dataclass(frozen=True)
class Slice:
    """One file's header, as far as it matters, pixels not yet decoded."""

    path: Path
    where: str
    patient: str
    uid: str
    number: str
    sop: str
    instance: int | None
    shape: tuple[int, int]
    spacing: tuple[float, float]
    right: Floats
    down: Floats
    corner: Floats
    broken: str  # why the pixels can't be read, "" if they are there

    @property
    def normal(self) -> Floats:
        return np.cross(self.right, self.down)


def read_header(path: Path, root: Path, problems: Problems) -> Slice | None:
    """The slice in a file; None after noting why there is none that can be used."""
    where = relative(path, root)
    try:
        data, broken = _read(path)
    except Exception as error:  # pydicom raises many types on damaged bytes
        problems.add("unreadable files", where, f"not readable as DICOM ({reason(error)})")
        return None
    if "SOPClassUID" in data and data.SOPClassUID.name == "Media Storage Directory Storage":
        return None
    modality = str(data.get("Modality", "")) or "missing"
    if modality != "CT":
        shown = modality if modality.isalnum() and len(modality) <= 7 else "unknown"
        problems.add("files of another modality", where, f"modality {shown}, not CT")
        return None
    if "LOCALIZER" in list(data.get("ImageType") or ()):
        problems.add("localizers", where, "a localizer (scout view), not a slice")
        return None
    if str(data.get("BurnedInAnnotation") or "NO").upper() == "YES":
        problems.add("files with burned-in text", where, "text is burned into its pixels")
        return None
    if int(data.get("NumberOfFrames") or 1) > 1:
        problems.add(
            "multi-frame files", where, "enhanced multi-frame CT; convert it to a file a slice"
        )
        return None
    absent = [name for name in _NEEDED if data.get(name) in (None, "")]
    if absent:
        text = f"no {', '.join(absent)} in the header{' of a truncated file' if broken else ''}"
        problems.add("files with an incomplete header", where, text)
        return None
    kind = str(data.get("RescaleType") or "HU")
    if not kind.startswith("HU"):
        problems.add("files not in Hounsfield units", where, "its rescale type is not HU")
        return None
    try:
        found = _slice(path, where, data, broken)
    except (TypeError, ValueError, OverflowError) as error:
        problems.add("files with an incomplete header", where, f"bad geometry ({reason(error)})")
        return None
    if broken:
        problems.add("truncated files", where, broken)
    return found


def _read(path: Path) -> tuple[Dataset, str]:
    """The data set, and what is wrong with its pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a value out of its standard's form is common and harmless
        try:
            data: Dataset = dcmread(path)
        except InvalidDicomError:
            data = dcmread(path, force=True)  # some old archives leave out the preamble
            if "SOPClassUID" not in data:
                raise
        if "PixelData" not in data:
            # pydicom gives up the whole data set at a truncated compressed element.
            return dcmread(
                path, stop_before_pixels=True, force=True
            ), "no whole pixel data; the file is truncated"
    return data, _short(data)


def _short(data: Dataset) -> str:
    if data.file_meta.get("TransferSyntaxUID") is None:
        return "no transfer syntax in the header; the pixels can't be decoded"
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        return ""
    try:
        expected = int(data.Rows) * int(data.Columns) * int(data.BitsAllocated) // 8
    except (AttributeError, TypeError, ValueError):
        return "no Rows, Columns or BitsAllocated in the header; the pixels can't be decoded"
    there = len(data.PixelData)
    return "" if there >= expected else f"{there} of {expected} bytes of pixels; it is truncated"


def _slice(path: Path, where: str, data: Dataset, broken: str) -> Slice:
    cosines = np.array([float(x) for x in data.ImageOrientationPatient])
    corner = np.array([float(x) for x in data.ImagePositionPatient])
    row, column = (float(x) for x in data.PixelSpacing)
    if cosines.shape != (6,) or corner.shape != (3,) or not np.isfinite([*cosines, *corner]).all():
        raise ValueError("ImageOrientationPatient or ImagePositionPatient has other than numbers")
    right, down = cosines[:3], cosines[3:]
    if not np.allclose([right @ right, down @ down, right @ down], [1, 1, 0], atol=1e-2):
        raise ValueError("the row and column directions are not at right angles")
    if not (0 < row < 100 and 0 < column < 100):
        raise ValueError("PixelSpacing is not a length")
    instance = data.get("InstanceNumber")
    return Slice(
        path=path,
        where=where,
        patient=str(data.get("PatientID") or "").strip(),
        uid=str(data.SeriesInstanceUID),
        number="" if data.get("SeriesNumber") is None else str(data.SeriesNumber),
        sop=str(data.SOPInstanceUID),
        instance=None if instance in (None, "") else int(instance),
        shape=(int(data.Rows), int(data.Columns)),
        spacing=(row, column),
        right=right / np.linalg.norm(right),
        down=down / np.linalg.norm(down),
        corner=corner,
        broken=broken,
    )


def decode(path: Path) -> Floats:
    """(H, W) float64: a file's pixels in Hounsfield units.

    Raises:
        UnreadableSlice: no plugin decodes them, or they are damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = dcmread(path, force=True)
            stored = data.pixel_array  # bits above BitsStored are cut off, signs restored
            if stored.ndim != 2:
                raise ValueError("not a grey slice")
            if data.get("ModalityLUTSequence"):
                return np.asarray(apply_modality_lut(stored, data), dtype=np.float64)
    except Exception as error:  # each plugin has errors of its own
        raise UnreadableSlice(f"pixels can't be decoded ({reason(error)})") from error
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    return stored.astype(np.float64) * float(1 if slope is None else slope) + float(intercept or 0)


def build_volumes(
    slices: Sequence[Slice], by_folder: bool, damaged: Collection[str], problems: Problems
) -> list[Volume]:
    """The series that the slices make up; what can't be one is noted and left out.

    Args:
        by_folder: patients are told apart by the first folder below the input, not by PatientID.
        damaged: folders of files whose header could not be read; series there may lack slices.
    """
    series: defaultdict[str, list[Slice]] = defaultdict(list)
    for one in slices:
        series[one.uid].append(one)
    built = (_volume(group, by_folder, damaged, problems) for group in series.values())
    return [volume for volume in built if volume is not None]


def _volume(
    group: list[Slice], by_folder: bool, damaged: Collection[str], problems: Problems
) -> Volume | None:
    folders = sorted({str(PurePosixPath(one.where).parent) for one in group})
    # The first file names the series in messages, since a folder may hold several.
    where = f"series of {min(one.where for one in group)} ({len(group)} files)"
    first = group[0]
    patients = {folder_patient(one.where) if by_folder else one.patient for one in group}
    if len(patients) > 1 or patients == {""}:
        text = "no PatientID" if patients == {""} else "files of several patients"
        problems.add("series without one patient", where, f"{text}; consider --patient folder")
        return None
    if any(np.abs(one.normal - first.normal).max() > 1e-2 for one in group):
        problems.add("series of mixed orientations", where, "slices of different orientations")
        return None
    if any(
        one.shape != first.shape
        or not np.allclose(one.spacing, first.spacing, rtol=1e-3)
        or np.abs(one.right - first.right).max() > 1e-2
        for one in group
    ):
        problems.add("series of mixed grids", where, "slices of different sizes or pixel spacings")
        return None
    if abs(first.normal[2]) < 0.8:
        problems.add("series that are not axial", where, "its slices are not axial")
        return None
    kept = _one_a_place(group, problems)
    geometry = Geometry(np.array([one.corner for one in kept]), first.right, first.down, np.inf)
    gap, missing = missing_slices(geometry.heights)
    if missing:
        problems.add("missing slices", where, f"{missing} missing between others", missing)
    path = [one.path for one in kept]
    broken = [one.broken for one in kept]

    def read(index: int) -> Floats:
        if broken[index]:
            raise UnreadableSlice(broken[index])
        return decode(path[index])

    return Volume(
        where=where,
        patient=patients.pop(),
        identity=first.uid,
        names=frozenset([first.uid, first.number, *folders]) - {"", "."},
        files=tuple(one.where for one in kept),
        instances=tuple(one.instance for one in kept),
        sops=tuple(one.sop for one in kept),
        shape=first.shape,
        spacing=first.spacing,
        geometry=Geometry(geometry.corners, first.right, first.down, gap),
        whole=not missing and not any(folder in damaged for folder in folders),
        read=read,
    )


def _one_a_place(group: list[Slice], problems: Problems) -> list[Slice]:
    """Sorted along the normal; of two at one place the first by name is kept."""
    kept: list[Slice] = []
    for one in sorted(group, key=lambda one: (float(one.corner @ group[0].normal), one.where)):
        if kept and abs(float((one.corner - kept[-1].corner) @ one.normal)) < 1e-3:
            again = "the same slice as" if one.sop == kept[-1].sop else "at the same place as"
            problems.add("slices at one place", one.where, f"{again} {kept[-1].where}")
        else:
            kept.append(one)
    return kept


def folder_patient(where: str) -> str:
    """The first folder below the input; for a file directly in it, its name without suffixes."""
    parts = PurePosixPath(where).parts
    return parts[0] if len(parts) > 1 else parts[0].split(".")[0]
