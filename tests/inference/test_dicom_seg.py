"""A SEG that highdicom reads back as the label map."""

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from ct.ct_series import dataset, phantom, save, series
from stagetransfer.errors import UserError
from stagetransfer.inference.dicom_seg_writer import write_segmentation
from stagetransfer.inference.label_map import DISCLAIMER, label_names

NAMES = label_names(("CON", "NOR"))


@pytest.fixture
def maps(tmp_path):
    series(tmp_path, phantom(3))
    random = np.random.default_rng(0)
    files = sorted(tmp_path.glob("*.dcm"))
    found = {file: random.integers(-1, 5, (80, 96)).astype(np.int16) for file in files}
    for one in found.values():
        one[one == 1] = -1  # NOR does not occur
    return found


def test_the_seg_holds_the_label_map(maps, tmp_path):
    write_segmentation(tmp_path / "x.seg.dcm", maps, NAMES, "run", 9000)
    found = hd.seg.segread(tmp_path / "x.seg.dcm")
    labels = {n: found.get_segment_description(n).segment_label for n in found.segment_numbers}
    assert list(labels.values()) == ["CON", "uncertain", "unlike the training data", "not read"]
    sources = [dcmread(file) for file in maps]
    frames = found.get_pixels_by_source_instance(
        [one.SOPInstanceUID for one in sources], assert_missing_frames_are_empty=True
    )
    for frame, read in zip(frames, maps.values(), strict=True):
        for number, label in labels.items():
            expected = read == NAMES.index(label)
            np.testing.assert_array_equal(frame[:, :, number - 1] == 1, expected)
    assert found.PatientID == sources[0].PatientID
    assert found.StudyInstanceUID == sources[0].StudyInstanceUID
    assert found.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert DISCLAIMER in found.SeriesDescription
    assert found.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


def test_an_empty_label_map_is_an_error(maps, tmp_path):
    empty = {file: np.full_like(read, -1) for file, read in maps.items()}
    with pytest.raises(UserError, match="Omit --seg"):
        write_segmentation(tmp_path / "x.seg.dcm", empty, NAMES, "run", 9000)


def test_a_series_header_without_required_elements_is_an_error(tmp_path):
    save(dataset(phantom(1)[0] + 1024, FrameOfReferenceUID=None), tmp_path / "a.dcm")
    maps = {tmp_path / "a.dcm": np.zeros((80, 96), np.int16)}
    with pytest.raises(UserError, match="--seg: no SEG can be made"):
        write_segmentation(tmp_path / "x.seg.dcm", maps, NAMES, "run", 9000)
