"""DICOM CT series, in every transfer syntax that pydicom and its plugins decode.

Hounsfield units are the output of the modality LUT: stored value x rescale slope + intercept
(DICOM PS3.3, C.11.1.1.2). The photometric interpretation (MONOCHROME1 or 2) only tells a viewer
how to display these values, so it is ignored here.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array

from stagetransfer.ct.dicom_header import SliceHeader
from stagetransfer.ct.input_problems import Problems, without_suffix
from stagetransfer.ct.volume import Geometry, Volume, check_slices, missing_slices
from stagetransfer.errors import first_line
from stagetransfer.formats.dicom_file import frame_header, read_checked
from stagetransfer.formats.unusable import Floats, Unreadable, Unusable

# The slices of a multi-frame file are used one after another, so one file in memory is enough.
_read_cached = lru_cache(maxsize=1)(read_checked)


def decode_hounsfield(path: Path, frame: int | None = None) -> Floats:
    """Return the pixels (H, W) of a file or its frame in Hounsfield units.

    Raises Unreadable if that fails.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            whole = (read_checked if frame is None else _read_cached)(path, force=True)
            data = whole if frame is None else frame_header(whole, frame)
            stored = pixel_array(whole, index=frame)  # without bits above BitsStored; with the sign
            if stored.ndim != 2:
                raise ValueError("not a grey slice")
            if data.get("ModalityLUTSequence"):
                return np.asarray(apply_modality_lut(stored, data), dtype=np.float64)
    except Exception as error:  # each plugin has its own exceptions
        raise Unreadable(f"the pixels cannot be decoded ({first_line(error)})") from error
    slope, intercept = float(data.RescaleSlope), float(data.RescaleIntercept)
    return np.asarray(stored.astype(np.float64) * slope + intercept)


def build_volumes(
    headers: Sequence[SliceHeader],
    patient_of: Callable[[str], str] | None,
    damaged: Collection[str],
    problems: Problems,
) -> list[Volume]:
    """Return the series that the slices form; an unusable series is recorded and left out.

    `damaged` are folders with files whose header could not be read: their series may lack slices.
    For `patient_of`, see `find_series`.
    """
    if patient_of is not None:
        headers = [replace(one, patient=patient_of(one.where)) for one in headers]
    series: defaultdict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    for header in headers:
        series[header.series_uid, header.patient].append(header)
    firsts = defaultdict(list)  # the first file of each patient, by series UID
    for (uid, _), group in series.items():
        firsts[uid].append(min(one.where for one in group))
    for first, *others in firsts.values():
        if others:
            text = f"its SeriesInstanceUID has {len(others) + 1} patients, for example that of "
            text += f"{others[0]}. Each is a series of its own. Check PatientID, or --patient"
            problems.note("series UIDs of several patients", f"series of {first}", text)
    volumes = []
    for whole in series.values():
        for name, group in _acquisitions(whole).items():
            # The first file identifies the series in messages; a folder may hold several series.
            of = f", acquisition {name}" if name else ""
            where = f"series of {min(one.where for one in group)} ({len(group)} files{of})"
            with problems.recording(where):
                volumes.append(_volume(group, where, damaged, problems, name))
    return volumes


def _acquisitions(group: list[SliceHeader]) -> dict[str, list[SliceHeader]]:
    """Divide a series that shows the same slices several times, such as in and out of breath.

    The parts have their acquisition (and temporal position) as names. A series whose acquisitions
    lie one after the other is one series, and has the name "".
    """
    parts: defaultdict[str, list[SliceHeader]] = defaultdict(list)
    for one in group:
        parts[one.acquisition].append(one)
    heights = [[float(one.origin @ group[0].normal) for one in part] for part in parts.values()]
    ranges = sorted((min(of), max(of)) for of in heights)
    overlap = any(
        high - low > min(high - first, last - low) / 2
        for (first, high), (low, last) in pairwise(ranges)
    )
    return dict(parts) if overlap else {"": group}


def _volume(
    group: list[SliceHeader],
    where: str,
    damaged: Collection[str],
    problems: Problems,
    acquisition: str,
) -> Volume:
    _check_series(group)
    first = group[0]
    named = f"{first.series_uid}:{acquisition}" if acquisition else ""
    folders = {str(PurePosixPath(one.where).parent) for one in group}
    kept = _one_per_position(group, problems)
    origins = np.array([one.origin for one in kept])
    gap, missing = missing_slices(origins @ first.normal, [one.instance for one in kept])
    if missing:
        text = f"slices missing between the others: {missing}"
        problems.add("missing slices", where, text, missing)

    def read_slice(index: int) -> Floats:
        if kept[index].damage:
            raise Unreadable(kept[index].damage)
        return decode_hounsfield(kept[index].path, kept[index].frame)

    return Volume(
        where=where,
        patient=first.patient,
        identity=f"{first.series_uid} {acquisition}".strip(),
        names=frozenset([first.series_uid, first.series_number, *folders, named]) - {"", "."},
        files=tuple(one.where for one in kept),
        shape=first.shape,
        spacing=first.spacing,
        geometry=Geometry(origins, first.right, first.down, gap),
        read_slice=read_slice,
        instances=tuple(one.instance for one in kept),
        sop_uids=tuple(one.sop_uid for one in kept),
        complete=not missing and folders.isdisjoint(damaged),
    )


def _check_series(group: list[SliceHeader]) -> None:
    """Raise Unusable if the slices are not one axial series of a known patient."""
    first = group[0]
    if not first.patient:
        raise Unusable("series without a patient", "no PatientID. Consider --patient folder")
    if any(np.abs(one.normal - first.normal).max() > 1e-2 for one in group):
        raise Unusable("series of mixed orientations", "slices of different orientations")
    if any(
        one.shape != first.shape
        or not np.allclose(one.spacing, first.spacing, rtol=1e-3)
        or np.abs(one.right - first.right).max() > 1e-2
        for one in group
    ):
        raise Unusable("series of mixed grids", "slices of different sizes or pixel spacings")
    check_slices(first.spacing, first.normal)


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
    # nnU-Net's name of the first channel is not part of a patient's name.
    return parts[0] if len(parts) > 1 else without_suffix(parts[0]).removesuffix("_0000")
