"""CT series for the tests in any transfer syntax and encoding, and calls of the command."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileDataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLossless,
    JPEGLosslessSV1,
)
from typer.testing import CliRunner

from stagetransfer.cli.app import app
from stagetransfer.errors import UserError

ROOT = "1.2.826.0.1.3680043.8.498"
PLAIN = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)

# A ramp of 32 x 32 pixels, 20 x + 9 y, reversibly coded by OpenJPH: pydicom cannot encode this.
HIGH_THROUGHPUT = (
    "/0//UQApQAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUE"
    "BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAALEAAf+TwAAm"
    "6/0FB3QAwAATQAASgNr+Agd0AEgBh3QAwAATQAATAGxsAYJ0AKKiAENUAMAAFTAABVA0Go32qnECdQBQCIL+wBCB"
    "7LYAwAAV0AAFoBiGYRiGYefKenpwgngApjHGGGP+/YAAe/YAAey6AMAALXgABbDGGGOMMcYYY4wx+f8Kenp6enp6"
    "cAJ9ABAAAAAAAAAA/v94Zye/fJ798nv3yey/AP/Z"
)


def phantom(depth=5, height=80, width=96, seed=0):
    """Return (Z, H, W) integer Hounsfield units from -1000 to 999: independent noise."""
    return np.random.default_rng(seed).integers(-1000, 1000, (depth, height, width))


def dataset(
    stored, *, index=0, uid=f"{ROOT}.1", patient="A", number=1, spacing=("0.7", "0.7"), **header
):
    """Return one slice; `stored` are the values of the file, which must fit its bits."""
    data = FileDataset(None, {}, preamble=b"\0" * 128)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"{uid}.{index + 1}"
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.PatientID, data.PatientName = patient, "Name^Of"
    data.PatientBirthDate, data.PatientSex = "19600101", "O"
    data.StudyDate, data.StudyTime, data.AccessionNumber = "20200101", "120000", "7"
    data.ReferringPhysicianName, data.StudyID, data.Manufacturer = "Doctor", "1", "None"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{ROOT}.9", uid
    data.FrameOfReferenceUID = f"{uid}.0"
    data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", number, 100 - index
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.PixelSpacing, data.SliceThickness = list(spacing), "2.5"
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-30, -20, 2.5 * index - 100]
    data.PositionReferenceIndicator = ""
    data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = 0
    data.Rows, data.Columns = stored.shape
    for key, value in header.items():
        setattr(data, key, value) if value is not None else delattr(data, key)
    data.HighBit = data.BitsStored - 1
    data.PixelData = stored.astype("<i2" if data.PixelRepresentation else "<u2").tobytes()
    return data


def save(data, path, syntax=ExplicitVRLittleEndian):
    """Write the slice in a transfer syntax."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        values = np.frombuffer(data.PixelData, "<u2").reshape(data.Rows, data.Columns)
        data.PixelData = encapsulate([jpeg_lossless(values)])
        data["PixelData"].is_undefined_length = True
    elif syntax == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
        data["PixelData"].VR = "OW"
    elif syntax not in PLAIN:
        data.compress(syntax, generate_instance_uid=False, **LOSSLESS.get(syntax.name, {}))
    data.file_meta.TransferSyntaxUID = syntax
    order = {"implicit_vr": False, "little_endian": False} if syntax == ExplicitVRBigEndian else {}
    dcmwrite(path, data, enforce_file_format=True, **order)


LOSSLESS = {
    "JPEG 2000 Image Compression": {"j2k_cr": [1]},
    "JPEG-LS Lossy (Near-Lossless) Image Compression": {"jls_error": 0},
}


def series(folder, hu=None, syntax=ExplicitVRLittleEndian, **header):
    """Write a series, stored as Hounsfield units + 1024 unless the header differs."""
    hu = phantom() if hu is None else hu
    slope = float(header.get("RescaleSlope", 1) or 1)
    intercept = float(header.get("RescaleIntercept", -1024) or 0)
    stored = np.rint((hu - intercept) / slope).astype(np.int64)
    for index, plane in enumerate(stored):
        save(dataset(plane, index=index, **header), folder / f"{index:02d}.dcm", syntax)
    return folder


def group(**tags):
    """A functional group: the tags of its only item, by the name of its sequence."""
    made = Dataset()
    for name, values in tags.items():
        item = Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        setattr(made, name, [item])
    return made


def enhanced(path, hu, syntax=ExplicitVRLittleEndian, shared=True, order=(2, 0, 1)):
    """Write an enhanced CT whose frames are in this order along the body, with own intercepts."""
    stored = np.stack([hu[k] + 1024 + 10 * k for k in order])
    data = dataset(stored[0])
    for name in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
        "RescaleIntercept", "InstanceNumber",
    ):  # fmt: skip
        delattr(data, name)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    data.NumberOfFrames, data.PixelData = len(stored), stored.astype("<u2").tobytes()
    common = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        "PixelMeasuresSequence": {"PixelSpacing": [0.7, 0.7]},
    }
    data.SharedFunctionalGroupsSequence = [group(**common) if shared else Dataset()]
    data.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePositionSequence={"ImagePositionPatient": [-30, -20, 2.5 * k]},
            PixelValueTransformationSequence={
                "RescaleSlope": 1, "RescaleIntercept": -1024 - 10 * k, "RescaleType": "HU",
            },
            **({} if shared else common),
        )
        for k in order
    ]  # fmt: skip
    save(data, path, syntax)
    return data


def jpeg_lossless(values):
    """Encode a 16-bit JPEG of process 14, selection value 1 (ITU T.81, annex H).

    No library writes this format.
    """
    height, width = values.shape
    before = np.zeros((height, width), dtype=np.int64)
    before[:, 1:] = values[:, :-1]
    before[1:, 0] = values[:-1, 0]
    before[0, 0] = 1 << 15
    difference = (values.astype(np.int64) - before + (1 << 15)) % (1 << 16) - (1 << 15)
    bits = []
    for d in difference.ravel().tolist():
        length = abs(d).bit_length()
        bits.append(f"{length:05b}")  # all 17 lengths have codes of five bits
        if 0 < length < 16:
            bits.append(f"{d if d > 0 else d + (1 << length) - 1:0{length}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    return b"".join(
        [
            b"\xff\xd8",
            b"\xff\xc3\x00\x0b\x10" + size + b"\x01\x01\x11\x00",
            b"\xff\xc4" + (len(table) + 2).to_bytes(2, "big") + table,
            b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00",
            scan,
            b"\xff\xd9",
        ]
    )


def table(path, header, *rows):
    """Write a CSV of annotations."""
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def run(*arguments):
    """Run the command; return its exit code, standard output and lines of standard error."""
    result = CliRunner().invoke(app, ["extract", *map(str, arguments)])
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        if not isinstance(error, UserError):
            raise error
        return 2, result.stdout, [*result.stderr.splitlines(), f"error: {error}"]
    return result.exit_code, result.stdout, result.stderr.splitlines()


def contents(folder: Path):
    """Return the content of all files below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder):
    """Return the rows of labels.csv as dicts."""
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def labels(folder, *pairs):
    """Write a table of labels: by default, 2 is GGO and 5 is left out."""
    return table(folder / "names.csv", "value,label", *(pairs or ("2,GGO", "5,")))


def assert_same_data_set(box, tmp_path, *options):
    """Check that a command gives the data set of the box, without a problem."""
    code, _, lines = run(tmp_path / "in", *options, "--out", tmp_path / "out")
    assert (code, lines) == (0, [])
    assert contents(tmp_path / "out") == box
