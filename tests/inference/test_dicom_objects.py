"""SEG, structured report and Secondary Captures, read by highdicom and checked by dciodvfy."""

import shutil
import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from ct.ct_series import dataset, phantom, save, series
from stagetransfer.inference.dicom_objects import CodeResult, NotWritable, ObjectMaker
from stagetransfer.inference.label_map import DISCLAIMER, label_names
from stagetransfer.inference.prediction_figures import NOT_READ_COLOUR, label_colours

NAMES = label_names(("CON", "NOR"))
SHARES = (0.25, 0.0, 0.5, 0.25, 0.125)
COLOURS = [*label_colours(2), NOT_READ_COLOUR]
MAKER = ObjectMaker(
    [
        CodeResult(*one, 0.75 if one[0] == "CON" else float("nan"))
        for one in zip(NAMES, COLOURS, SHARES, strict=True)
    ],
    9000,
    {"run": "run", "certain": "0.5"},
)


@pytest.fixture
def maps(tmp_path):
    series(tmp_path, phantom(3))
    random = np.random.default_rng(0)
    files = sorted(tmp_path.glob("*.dcm"))
    found = {file: random.integers(-1, 5, (80, 96)).astype(np.int16) for file in files}
    for one in found.values():
        one[one == 1] = -1  # NOR does not occur
    return found


@pytest.fixture
def written(maps, tmp_path):
    """Return the folder with the written x.seg.dcm, x.lung.seg.dcm, x.sr.dcm and x.sc.dcm."""
    for suffix, one in MAKER.make(maps).items():
        one.save_as(tmp_path / f"x.{suffix}.dcm")
    Image.new("RGB", (30, 20), (10, 200, 30)).save(tmp_path / "x.png")
    assert MAKER.write_captures({tmp_path / "x.png": next(iter(maps))}, "LP") == 1
    return tmp_path


def test_the_segs_hold_the_label_map_and_the_lung(maps, written):
    found, lungs = (hd.seg.segread(written / f"x.{name}.dcm") for name in ("seg", "lung.seg"))
    sources = [dcmread(file) for file in maps]
    for one, names in ((found, ["CON", *NAMES[2:]]), (lungs, ["lung"])):
        labels = {n: one.get_segment_description(n).segment_label for n in one.segment_numbers}
        assert list(labels.values()) == names
        frames = one.get_pixels_by_source_instance(
            [source.SOPInstanceUID for source in sources], assert_missing_frames_are_empty=True
        )
        for frame, read in zip(frames, maps.values(), strict=True):
            for number, label in labels.items():
                expected = read != -1 if label == "lung" else read == NAMES.index(label)
                np.testing.assert_array_equal(frame[:, :, number - 1] == 1, expected)
    assert found.SeriesInstanceUID == lungs.SeriesInstanceUID
    assert found.SOPInstanceUID != lungs.SOPInstanceUID
    assert (found.InstanceNumber, lungs.InstanceNumber) == (1, 2)
    assert found.PatientID == sources[0].PatientID
    assert found.StudyInstanceUID == sources[0].StudyInstanceUID
    assert found.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert DISCLAIMER in found.SeriesDescription
    assert found.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    volume = found.get_volume(segment_numbers=[1], combine_segments=True)
    np.testing.assert_allclose(volume.spacing, (2.5, 0.7, 0.7))
    corners = [one.ImagePositionPatient for one in sources]
    index = volume.map_reference_to_indices(np.array(corners, float))
    assert sorted(index[:, 0].round().astype(int)) == [0, 1, 2]
    np.testing.assert_allclose(index[:, 1:], 0, atol=1e-6)


def test_codes_colours_and_tracking_of_segments(written):
    found = [hd.seg.segread(written / f"x.{name}.dcm") for name in ("seg", "lung.seg")]
    segments = [*found[0].SegmentSequence, *found[1].SegmentSequence]
    codes_of = {s.SegmentLabel: s.SegmentedPropertyTypeCodeSequence[0] for s in segments}
    assert {name: (c.CodeValue, c.CodingSchemeDesignator) for name, c in codes_of.items()} == {
        "CON": (codes_of["CON"].CodeValue, "99STAGETRANSFER"),
        "uncertain": ("64957009", "SCT"),
        "unlike the training data": ("261665006", "SCT"),
        "not read": ("373121007", "SCT"),
        "lung": ("39607008", "SCT"),
    }
    for segment, name in zip(segments, [NAMES[0], *NAMES[2:]], strict=False):
        colour = [round(255 * value) for value in COLOURS[NAMES.index(name)]]
        value = hd.color.CIELabColor.from_rgb(*colour).value
        assert list(segment.RecommendedDisplayCIELabValue) == list(value)
    assert len({segment.TrackingUID for segment in segments}) == len(segments)


def test_normal_lung_is_not_an_abnormal_structure(maps):
    found = MAKER.make({file: np.ones_like(read) for file, read in maps.items()})["seg"]
    segment = found.SegmentSequence[0]
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "85756007"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "17621005"


def test_the_report_holds_shares_certainty_and_algorithm(written):
    report = hd.sr.srread(written / "x.sr.dcm")
    segments = {s.SegmentLabel: s for s in dcmread(written / "x.seg.dcm").SegmentSequence}
    content = report.content
    assert isinstance(content, hd.sr.MeasurementReport)
    groups = [
        *content.get_volumetric_roi_measurement_groups(),
        *content.get_image_measurement_groups(),
    ]
    assert sorted(one.tracking_identifier for one in groups) == sorted(NAMES)
    for one in groups:
        name = one.tracking_identifier
        values = {m.name.meaning: m.value for m in one.get_measurements()}
        whole = "lung" if name == "not read" else "lung that was read"
        expected = {f"share of the {whole}": 100 * SHARES[NAMES.index(name)]}
        if name == "CON":
            expected["mean calibrated probability"] = 0.75
        assert values == expected
        if name == "NOR":  # no segment
            assert one.finding_type == codes.SCT.Normal
            continue
        assert one.tracking_uid == segments[name].TrackingUID
        [reference] = one.referenced_segment[0].ReferencedSOPSequence
        assert reference.ReferencedSegmentNumber == segments[name].SegmentNumber
    text = str(report)
    assert "run=run" in text
    assert "certain=0.5" in text


@pytest.mark.parametrize(
    ("character_set", "patient"),
    [
        (None, "Name^Of"),
        ("ISO_IR 100", "Müller^Jörg"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_of_classes_and_patients_have_any_characters(tmp_path, character_set, patient):
    series(tmp_path, phantom(2), SpecificCharacterSet=character_set or "", PatientName=patient)
    codes = [replace(MAKER.codes[0], name="すりガラス影"), *MAKER.codes[1:]]
    maps = {file: np.zeros((80, 96), np.int16) for file in sorted(tmp_path.glob("*.dcm"))}
    for suffix, one in replace(MAKER, codes=codes).make(maps).items():
        one.save_as(tmp_path / f"x.{suffix}")
    Image.new("RGB", (30, 20)).save(tmp_path / "x.png")
    MAKER.write_captures({tmp_path / "x.png": next(iter(maps))}, "LP")
    seg, lung, report = (dcmread(tmp_path / f"x.{name}") for name in ("seg", "lung.seg", "sr"))
    capture = dcmread(tmp_path / "x.sc.dcm")
    assert [str(one.PatientName) for one in (seg, lung, report, capture)] == [patient] * 4
    assert seg.SegmentSequence[0].SegmentLabel == "すりガラス影"
    assert "すりガラス影" in str(report)


def test_a_capture_holds_the_picture(written):
    capture = dcmread(written / "x.sc.dcm")
    assert capture.pixel_array.shape == (20, 30, 3)
    assert (capture.pixel_array == (10, 200, 30)).all()
    assert list(capture.PatientOrientation) == ["L", "P"]


@pytest.mark.parametrize("absent", ["nothing", "what may be empty"])
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of dicom3tools")
def test_dciodvfy_finds_no_error(tmp_path, absent):
    names = () if absent == "nothing" else (
        "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
        "ReferringPhysicianName", "PositionReferenceIndicator",
    )  # fmt: skip
    incomplete = Dataset()
    incomplete.ReferencedSOPInstanceUID = "1.2.3"
    series(tmp_path, phantom(3), ReferencedStudySequence=[incomplete], **dict.fromkeys(names))
    maps = {file: np.full((80, 96), 0, np.int16) for file in sorted(tmp_path.glob("*.dcm"))}
    for code, one in enumerate(maps.values()):
        one[10:40] = code + 1
        one[:5] = -1
    for suffix, one in MAKER.make(maps).items():
        one.save_as(tmp_path / f"x.{suffix}.dcm")
    Image.new("RGB", (30, 20)).save(tmp_path / "x.png")
    MAKER.write_captures({tmp_path / "x.png": next(iter(maps))}, "LP")
    for suffix in ("seg", "lung.seg", "sr", "sc"):
        command = ["dciodvfy", tmp_path / f"x.{suffix}.dcm"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (found.stdout + found.stderr).splitlines()
        assert [line for line in lines if line.startswith("Error")] == []


def test_an_empty_label_map_cannot_be_written(maps):
    with pytest.raises(NotWritable, match="no slice has lung"):
        MAKER.make({file: np.full_like(read, -1) for file, read in maps.items()})


def test_a_series_header_without_required_elements_cannot_be_written(tmp_path):
    save(dataset(phantom(1)[0] + 1024, FrameOfReferenceUID=None), tmp_path / "a.dcm")
    with pytest.raises(NotWritable, match="Frame Of Reference UID"):
        MAKER.make({tmp_path / "a.dcm": np.zeros((80, 96), np.int16)})
