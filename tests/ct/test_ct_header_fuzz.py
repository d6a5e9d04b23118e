"""Whatever the tags of a header hold, a file is read or has a line: never a traceback."""

import struct
import warnings

import numpy as np
import pytest
from ct_series import dataset, enhanced, phantom, save
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from stagetransfer.ct import Problems, Unreadable, describe, find_series

TAGS = [
    "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "BurnedInAnnotation", "PatientID",
    "SeriesInstanceUID", "SeriesNumber", "AcquisitionNumber", "InstanceNumber", "NumberOfFrames",
    "TemporalPositionIdentifier", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ModalityLUTSequence",
]  # fmt: skip
TEXTS = ["", " ", "0", "-0.0", "1", "1e999", "-1e300", "nan", "inf", "1,5", "CT", "HU", "US", "ä"]
VALUES = st.one_of(
    st.lists(st.sampled_from([*TEXTS, "1.5", "\\", "LOCALIZER"]), max_size=7).map("\\".join),
    st.text(max_size=12),
).map(lambda text: text.encode("latin-1", "replace"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def read(folder):
    """Read everything as a command does."""
    problems = Problems()
    volumes, _ = find_series(folder, problems, unspecified_is_hu=True)
    for volume in volumes:
        for index in range(len(volume)):
            try:
                plane = volume.read_slice(index)
            except Unreadable:
                continue
            assert plane.shape == volume.shape
    describe(volumes)
    assert volumes or problems.lines
    assert all(line.isprintable() for line in problems.lines)


def put(content, tag, value):
    """Set an element in the bytes of a file, where it is or else before the pixels."""
    number = tag_for_keyword(tag)
    vr = dictionary_VR(number)
    value += b" " * (len(value) % 2)
    start = struct.pack("<2H", number >> 16, number & 0xFFFF)
    if vr == "SQ":
        element = start + b"UN\0\0" + struct.pack("<I", len(value)) + value
    else:
        element = start + vr.encode() + struct.pack("<H", len(value)) + value
    place = content.find(start + vr.encode(), 132)
    if place < 0:
        place = end = content.index(b"\xe0\x7f\x10\x00OW")
    else:
        end = place + 8 + int.from_bytes(content[place + 6 : place + 8], "little")
    return content[:place] + element + content[end:]


@pytest.fixture(scope="module")
def slice_bytes(folder):
    """One slice, as the bytes of its file, beside another that stays as it is."""
    save(dataset(phantom(1, 8, 9)[0] + 1024, index=1), folder / "02.dcm")
    save(dataset(phantom(1, 8, 9)[0] + 1024), folder / "01.dcm")
    return (folder / "01.dcm").read_bytes()


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(TAGS), VALUES | st.binary(max_size=9), max_size=3))
def test_tags_of_a_slice(folder, slice_bytes, changes):
    content = slice_bytes
    for tag, value in changes.items():
        content = put(content, tag, value)
    (folder / "01.dcm").write_bytes(content)
    with warnings.catch_warnings(action="ignore"):
        read(folder)


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from(TAGS[12:18]), VALUES, min_size=1, max_size=2))
def test_tags_of_a_frame(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("frames") / "x.dcm"
    data = enhanced(path, phantom(3, 8, 9), shared=False)
    for group in data.PerFrameFunctionalGroupsSequence[1]:
        for tag, value in changes.items():
            if tag in group.value[0]:
                number = Tag(tag_for_keyword(tag))
                value += b" " * (len(value) % 2)
                found = (number, dictionary_VR(number), len(value), value, 0, False, True)
                group.value[0]._dict[number] = RawDataElement(*found)
    with warnings.catch_warnings(action="ignore"):
        data.save_as(path, enforce_file_format=True)
        read(path)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=4))
def test_bytes_of_a_header(folder, slice_bytes, changes):
    content = bytearray(slice_bytes)
    for place, value in changes:
        content[place] = value
    (folder / "01.dcm").write_bytes(content)
    with warnings.catch_warnings(action="ignore"):
        read(folder)


def test_the_fuzz_reads_what_is_unchanged(tmp_path, slice_bytes):
    content = put(put(slice_bytes, "RescaleSlope", b"2"), "RescaleType", b"US")
    (tmp_path / "x.dcm").write_bytes(content)
    assert dcmread(tmp_path / "x.dcm").RescaleSlope == 2
    (volume,), _ = find_series(tmp_path, Problems(), unspecified_is_hu=True)
    expected = 2 * (phantom(1, 8, 9)[0] + 1024) - 1024
    np.testing.assert_array_equal(volume.read_slice(0), expected)
