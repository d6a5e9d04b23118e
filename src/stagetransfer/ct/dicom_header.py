"""The header of a DICOM slice, as far as it is needed, and why a file is no usable CT slice."""

import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, MediaStorageDirectoryStorage

from stagetransfer.ct.input_problems import Problems, relative_name
from stagetransfer.errors import first_line
from stagetransfer.formats.dicom_file import frame_header, read_checked
from stagetransfer.formats.unusable import Floats, Unusable

_CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage)
_HOUNSFIELD = re.compile(r"HU|HOUND?SFIELD( UNITS?)?")  # some scanners write Houndsfield
# Tags that a file without preamble may begin with, in little endian: of groups 2 and 8.
_FIRST_TAGS = {struct.pack("<2H", 2, n) for n in (0, 1, 2)} | {
    struct.pack("<2H", 8, n) for n in (0, 1, 5, 8, 16, 18, 22, 24)
}
_REQUIRED = (
    "SeriesInstanceUID", "SOPInstanceUID", "Rows", "Columns", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient",
)  # fmt: skip

_FLOAT_PIXELS = ("FloatPixelData", "DoubleFloatPixelData")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix, the letters DICM at byte 128 or its first tag."""
    if path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    # After a tag follow two letters, or the length of its value.
    length = int.from_bytes(start[4:8], "little")
    begins = start[4:6].isalpha() or (0 < length <= 128 and length % 2 == 0)
    return start[128:] == b"DICM" or (start[:4] in _FIRST_TAGS and begins)


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
    acquisition: str
    shape: tuple[int, int]
    spacing: tuple[float, float]
    right: Floats
    down: Floats
    normal: Floats
    origin: Floats
    damage: str  # why the pixels cannot be read; "" if they can
    frame: int | None  # the number in an enhanced multi-frame file, from 0


def read_headers(
    path: Path, root: Path, problems: Problems, *, unspecified_is_hu: bool = False
) -> list[SliceHeader]:
    """Return the headers of a file's slices: one, or those of all frames of an enhanced CT.

    There is none if the file is not usable, which is recorded with its reason. The unit "US"
    (unspecified) is a reason unless `unspecified_is_hu`.
    """
    where = relative_name(path, root)
    found: list[SliceHeader] = []
    with problems.recording(where):
        try:
            data, damage = _read(path)
        except Exception as error:  # pydicom raises many types on damaged bytes
            text = f"not readable as DICOM ({first_line(error)})"
            raise Unusable("unreadable files", text) from error
        if _sop_class(data) == MediaStorageDirectoryStorage:
            return []
        try:
            frames = range(len(data.get("PerFrameFunctionalGroupsSequence") or ()))
            slices = []
            for frame in frames or [None]:
                one = data if frame is None else frame_header(data, frame)
                _check_slice(one, damage, unspecified_is_hu)
                slices.append(_header(path, where, one, damage, frame))
        except Unusable:
            raise
        except Exception as error:  # pydicom converts a value when it is used
            text = f"bad geometry ({first_line(error)})"
            raise Unusable("files with an incomplete header", text) from error
        if damage:
            problems.add("truncated files", where, damage)
        found += slices
    return found


def _check_slice(data: Dataset, damage: str, unspecified_is_hu: bool) -> None:
    """Raise Unusable if the file is not a CT slice, or its header is incomplete."""
    modality = str(data.get("Modality") or "") or "missing"
    if modality == "missing" and _sop_class(data) in _CT_CLASSES:
        modality = "CT"
    if modality != "CT":
        shown = modality if modality.isalnum() and len(modality) <= 16 else "unknown"
        raise Unusable("files of another modality", f"modality {shown}, not CT")
    for name in _FLOAT_PIXELS:
        if name in data:
            text = f"its pixels are in {name}, not in PixelData as in a CT. Convert the file"
            raise Unusable("files with floating-point pixels", text)
    if "LOCALIZER" in list(data.get("ImageType") or ()):
        raise Unusable("localizers", "a localizer (scout view), not a slice")
    if str(data.get("BurnedInAnnotation") or "NO").upper() == "YES":
        raise Unusable("files with burned-in text", "text is burned into its pixels")
    if int(data.get("NumberOfFrames") or 1) > 1:
        text = "several frames without a position of each. Convert it to one file per slice"
        raise Unusable("multi-frame files", text)
    missing = [name for name in _REQUIRED if data.get(name) in (None, "")]
    if missing:
        header = "the header of a truncated file" if damage else "the header"
        raise Unusable("files with an incomplete header", f"no {', '.join(missing)} in {header}")
    _check_hounsfield(data, unspecified_is_hu)


def _sop_class(data: Dataset) -> str:
    """Return the class of the object: of the data set, or else of the file meta information."""
    meta = data.get("file_meta", {})
    for value in (data.get("SOPClassUID"), meta.get("MediaStorageSOPClassUID")):
        for one in [value] if isinstance(value, str) else value or ():
            if one:
                return str(one)
    return ""


def _check_hounsfield(data: Dataset, unspecified_is_hu: bool) -> None:
    """Raise Unusable, which names the tag, unless the header leads to Hounsfield units."""
    kind = "files not in Hounsfield units"
    unit = str(data.get("RescaleType") or "HU").strip().upper()
    if not _HOUNSFIELD.fullmatch(unit) and not (unit == "US" and unspecified_is_hu):
        cure = ". If they are HU, give --unspecified-hu" if unit == "US" else ""
        raise Unusable(kind, f"its RescaleType is {unit[:16]!r}, not HU{cure}")
    if data.get("ModalityLUTSequence"):
        return
    for name in ("RescaleSlope", "RescaleIntercept"):
        try:
            value = data.get(name)
            number = float(value) if isinstance(value, int | float | str) else np.nan
        except (TypeError, ValueError):
            number = np.nan
        if not np.isfinite(number) or (name == "RescaleSlope" and number == 0):
            text = f"no usable {name}, without which stored values are no Hounsfield units"
            raise Unusable(kind, text)


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
        if any(name in data for name in _FLOAT_PIXELS):
            return data, ""  # `_check_slice` refuses it
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
        expected *= int(data.get("NumberOfFrames") or 1)
    except (AttributeError, TypeError, ValueError):
        return "no Rows, Columns or BitsAllocated in the header; the pixels cannot be decoded"
    found = len(data.PixelData)
    short = f"{found} of {expected} bytes of pixels; the file is truncated"
    return short if found < expected else ""


def _header(path: Path, where: str, data: Dataset, damage: str, frame: int | None) -> SliceHeader:
    cosines = np.array([float(x) for x in data.ImageOrientationPatient])
    origin = np.array([float(x) for x in data.ImagePositionPatient])
    row, column = (float(x) for x in data.PixelSpacing)
    if cosines.shape != (6,) or origin.shape != (3,) or not np.isfinite([*cosines, *origin]).all():
        raise ValueError("ImageOrientationPatient or ImagePositionPatient is not all numbers")
    right, down = cosines[:3], cosines[3:]
    if not np.allclose([right @ right, down @ down, right @ down], [1, 1, 0], atol=1e-2):
        raise ValueError("the row and column directions are not at right angles")
    if not (0 < row < np.inf and 0 < column < np.inf):
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
        acquisition=" ".join(
            str(data.get(name) or "")
            for name in ("AcquisitionNumber", "TemporalPositionIdentifier")
        ).strip(),
        shape=(int(data.Rows), int(data.Columns)),
        spacing=(row, column),
        right=right,
        down=down,
        normal=np.cross(right, down),
        origin=origin,
        damage=damage,
        frame=frame,
    )
