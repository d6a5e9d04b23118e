"""Files that promise more than memory holds: refused in one line before the memory is taken."""

import gzip
import os
import struct
import zlib

import nibabel as nib
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ct.ct_series import PLAIN, dataset, jpeg_lossless, phantom, save, series
from stagetransfer.ct import dicom, dicom_header
from stagetransfer.ct.find_series import find_series
from stagetransfer.ct.input_problems import Problems
from stagetransfer.ct.roi_patches import PatchSettings, Raster
from stagetransfer.errors import UserError
from stagetransfer.formats import grid, nifti
from stagetransfer.formats.dicom_file import read_checked
from stagetransfer.formats.dicom_seg_reader import read_segmentation
from stagetransfer.formats.unusable import Unreadable


@pytest.fixture
def no_decoding(monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("pydicom.dataset.Dataset.pixel_array", property(fail))


def test_a_slice_of_65535_squared_is_not_decoded(tmp_path, no_decoding):
    data = dataset(phantom(1)[0] + 1024)
    data.compress(RLELossless)
    data.Rows = data.Columns = 65535
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    problems = Problems()
    assert dicom_header.read_headers(tmp_path / "a.dcm", tmp_path, problems) == []
    assert "65535 x 65535 pixels, more than the limit" in problems.lines[0]
    with pytest.raises(Unreadable, match="65535 x 65535 pixels"):
        dicom.decode_hounsfield(tmp_path / "a.dcm")
    with pytest.raises(Unreadable, match="65535 x 65535 pixels"):
        read_segmentation(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("syntax", "where", "size"),
    [
        (JPEG2000Lossless, b"\xff\x4f\xff\x51", (8, struct.pack(">2I", 60000, 60000))),
        (JPEGLSLossless, b"\xff\xf7", (5, struct.pack(">2H", 60000, 60000))),
        (JPEGLosslessSV1, b"\xff\xc3", (5, struct.pack(">2H", 60000, 60000))),
    ],
)
def test_a_frame_that_claims_to_be_larger_than_the_header_says(
    tmp_path, no_decoding, syntax, where, size
):
    save(dataset(phantom(1)[0] + 1024), tmp_path / "good.dcm", syntax)
    assert read_checked(tmp_path / "good.dcm").Rows == 80
    content = bytearray((tmp_path / "good.dcm").read_bytes())
    start = content.rindex(where) + size[0]
    content[start : start + len(size[1])] = size[1]
    (tmp_path / "bomb.dcm").write_bytes(content)
    with pytest.raises(Unreadable, match="60000 x 60000 pixels, more than the limit"):
        dicom.decode_hounsfield(tmp_path / "bomb.dcm")


@pytest.mark.parametrize("between", [b"\xff", b"\xff\xff\xff", b"\0", b"\xff\x01", b"\xff\xfe\0\2"])
def test_the_size_of_a_frame_is_found_behind_other_bytes(tmp_path, no_decoding, between):
    data = dataset(phantom(1)[0] + 1024)
    frame = jpeg_lossless(phantom(1)[0] + 1024)
    start = frame.index(b"\xff\xc3")
    size = struct.pack(">2H", 60000, 60000)
    frame = frame[:start] + between + frame[start : start + 5] + size + frame[start + 9 :]
    data.PixelData = encapsulate([frame])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    data.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    with pytest.raises(Unreadable, match="60000 x 60000 pixels, more than the limit"):
        dicom.decode_hounsfield(tmp_path / "bomb.dcm")


def test_too_many_frames(tmp_path):
    data = dataset(phantom(1)[0] + 1024, NumberOfFrames=10**6)
    save(data, tmp_path / "a.dcm")
    with pytest.raises(OSError, match="larger than 512 million"):
        read_checked(tmp_path / "a.dcm")


def test_a_deflate_bomb(tmp_path):
    data = dataset(phantom(1)[0] + 1024)
    save(data, tmp_path / "good.dcm", DeflatedExplicitVRLittleEndian)
    assert read_checked(tmp_path / "good.dcm").Rows == 80
    content = (tmp_path / "good.dcm").read_bytes()
    length = int.from_bytes(content[140:144], "little")  # of the elements that are not deflated
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = bytes(2**24)
    bomb = b"".join(squeeze.compress(block) for _ in range(40)) + squeeze.flush()
    (tmp_path / "bomb.dcm").write_bytes(content[: 144 + length] + bomb)
    with pytest.raises(OSError, match="larger than 512 million"):
        read_checked(tmp_path / "bomb.dcm", force=True)


@pytest.mark.parametrize("syntax", PLAIN)
def test_good_files_are_read_as_before(tmp_path, syntax):
    save(dataset(phantom(1)[0] + 1024), tmp_path / "a.dcm", syntax)
    assert dicom.decode_hounsfield(tmp_path / "a.dcm").shape == (80, 96)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_gzip_bomb(tmp_path, kind, monkeypatch):
    good = tmp_path / "good.nii.gz"
    nib.save(kind(np.zeros((9, 8, 7), np.int16), np.eye(4)), good)
    assert nifti.read_nifti(good).stored.shape == (9, 8, 7)
    image = kind(np.zeros((2, 2, 2), np.int16), np.eye(4))
    monkeypatch.setattr(grid.nib, "load", None)  # nothing but the header is read
    changes = {
        "voxels, more than": (30000, 2000, 4000),
        "pixels, more than": (30000, 30000, 1),
        "truncated": (512, 512, 100),
    }
    for words, shape in changes.items():
        header = image.header.copy()
        header.set_data_shape(shape)
        header["magic"] = b"n+1" if kind is nib.Nifti1Image else b"n+2\0\r\n\x1a\n"
        header["vox_offset"] = 544
        with gzip.open(tmp_path / "bomb.nii.gz", "wb") as file:
            file.write(header.binaryblock + bytes(999))
        with pytest.raises(Unreadable, match=words):
            nifti.read_nifti(tmp_path / "bomb.nii.gz")


def test_a_spacing_that_would_take_all_memory():
    for target in (0.0001, 1e-300):
        with pytest.raises(UserError, match="--spacing, --field: with pixels of"):
            Raster.with_spacing((512, 512), (0.7, 0.7), target)
    assert Raster.with_spacing((512, 512), (0.7, 0.7), 0.35).size == (1024, 1024)


@pytest.mark.parametrize(
    "change",
    [{"size": 10**9}, {"size": 0}, {"width": 0}, {"level": float("nan")}, {"spacing": -1.0}],
)
def test_impossible_settings_of_a_patch(change):
    with pytest.raises(ValueError, match="impossible settings"):
        PatchSettings(**change)
    with pytest.raises(TypeError):
        PatchSettings(size="32")


def test_pipes_are_not_opened(tmp_path):
    series(tmp_path / "a", phantom(2))
    os.mkfifo(tmp_path / "a" / "pipe.dcm")
    with pytest.raises(UserError, match=r"pipe.dcm: a pipe"):
        find_series(tmp_path, Problems())


def test_a_problem_is_one_line():
    problems = Problems()
    problems.add("files", f"\x1b[31m{'x' * 5000}\n", "unreadable", 1)
    assert problems.lines[0].isprintable()
    assert len(problems.lines[0]) <= 1000
