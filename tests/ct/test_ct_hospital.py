"""CT as hospitals and archives write it, modelled on public files: read right, or named."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.multival import MultiValue
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from ct.ct_series import ROOT, dataset, enhanced, phantom, rows, run, save, series, table
from stagetransfer.ct import Problems, find_series

HU = phantom(3)


def found(folder):
    problems = Problems()
    volumes, _ = find_series(folder, problems)
    return volumes, problems


def changed(folder, **tags):
    """The phantom, with these tags set on every slice; None removes a tag."""
    return series(folder, HU, **tags)


@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": None},
        {"Modality": ""},
        {"SOPClassUID": ""},
        {"SOPClassUID": None},
        {"SOPClassUID": MultiValue(str, [CTImageStorage, CTImageStorage])},
        {"RescaleType": "HU"},
        {"RescaleType": "Houndsfield Unit"},
        {"RescaleType": "HOUNSFIELD UNITS"},
    ],
)
def test_series_that_are_read(tmp_path, tags):
    folder = changed(tmp_path, **tags)
    (volume,), problems = found(folder)
    assert problems.lines == []
    assert all(np.array_equal(volume.read_slice(i), HU[i]) for i in range(3))


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"RescaleSlope": None}, "RescaleSlope"),
        ({"RescaleSlope": ""}, "RescaleSlope"),
        ({"RescaleSlope": "0"}, "RescaleSlope"),
        ({"RescaleSlope": ["1", "2"]}, "RescaleSlope"),
        ({"RescaleSlope": "nan"}, "RescaleSlope"),
        ({"RescaleIntercept": "1e999"}, "RescaleIntercept"),
        ({"RescaleIntercept": None}, "RescaleIntercept"),
        ({"RescaleIntercept": ""}, "RescaleIntercept"),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "RescaleSlope"),
        ({"RescaleType": "US"}, "RescaleType"),
        ({"RescaleType": "OD"}, "RescaleType"),
        ({"RescaleType": "HU_MOD"}, "RescaleType"),
    ],
)
def test_stored_values_never_pass_as_hounsfield_units(tmp_path, tags, name):
    for index, plane in enumerate(HU + 1024):
        save(dataset(plane, index=index, **tags), tmp_path / f"{index}.dcm")
    volumes, problems = found(tmp_path)
    assert volumes == ()
    assert len(problems.lines) == 3
    assert all(name in line for line in problems.lines)


def test_unspecified_values_are_hounsfield_units_if_the_user_says_so(tmp_path):
    folder = changed(tmp_path / "in", RescaleType="US")
    rois = table(tmp_path / "r.csv", "slice,x,y,label", "0,40,40,a")
    given = ["--annotations", rois, "--out", tmp_path / "out"]
    code, _, lines = run(folder, *given)
    assert (code, len(lines)) == (2, 5)
    assert all("--unspecified-hu" in line for line in lines[:3])
    assert run(folder, *given, "--unspecified-hu")[0] == 0
    changed(folder, RescaleType="OD")
    assert run(folder, "--check", "--unspecified-hu")[0] == 2


def test_files_with_neither_preamble_nor_suffix(tmp_path):
    """As old archives store them: the data set alone, in implicit or explicit VR."""
    for index, plane in enumerate(HU + 1024):
        implicit = index != 1
        with (tmp_path / f"IM{index}").open("wb") as file:
            data = dataset(plane, index=index)
            del data.file_meta, data.preamble
            data.save_as(file, implicit_vr=implicit, little_endian=True)
    (tmp_path / "README").write_text("\b\0\5\0 is no tag of DICOM")
    (volume,), problems = found(tmp_path)
    assert problems.lines == []
    assert all(np.array_equal(volume.read_slice(i), HU[i]) for i in range(3))


def test_a_directory_file_is_left_out(tmp_path):
    folder = changed(tmp_path)
    data = dataset(HU[0] + 1024, SOPClassUID=None)
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    save(data, folder / "DICOMDIR")
    problems = Problems()
    volumes, others = find_series(folder, problems)
    assert (len(volumes), len(volumes[0]), others, problems.lines) == (1, 3, 1, [])


def acquisitions(folder, positions, tag="AcquisitionNumber"):
    """One series whose slices have this acquisition and height each."""
    for index, (acquisition, height) in enumerate(positions):
        place = {"ImagePositionPatient": [-30, -20, height], tag: acquisition}
        plane = HU[0] + 1024 + acquisition
        save(dataset(plane, index=index, **place), folder / f"{index:02d}.dcm")
    return folder


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "TemporalPositionIdentifier"])
def test_two_acquisitions_of_the_same_slices_are_two_series(tmp_path, tag):
    both = [(n, 5.0 * i + n) for i in range(4) for n in (1, 2)]
    volumes, problems = found(acquisitions(tmp_path, both, tag))
    assert [len(volume) for volume in volumes] == [4, 4]
    assert problems.lines == []
    assert len({volume.identity for volume in volumes}) == 2
    names = [f"{ROOT}.1:1", f"{ROOT}.1:2"]
    for number, (volume, name) in enumerate(zip(volumes, names, strict=True), 1):
        assert name in volume.names
        assert np.array_equal(volume.read_slice(0), HU[0] + number)
    rois = table(tmp_path / "r.csv", "series,slice,x,y,label", f"{names[1]},0,40,40,a")
    code, _, _ = run(tmp_path, "--annotations", rois, "--out", tmp_path.with_name(f"out-{tag}"))
    assert code == 0
    assert len(pd.read_csv(tmp_path.with_name(f"out-{tag}") / "labels.csv")) == 1


def test_acquisitions_one_after_the_other_are_one_series(tmp_path):
    steps = [(1 + i // 2, 5.0 * i) for i in range(6)]
    volumes, problems = found(acquisitions(tmp_path, steps))
    assert [len(volume) for volume in volumes] == [6]
    assert problems.lines == []


def test_one_series_uid_for_two_patients(tmp_path):
    for index, plane in enumerate(np.repeat(HU, 2, axis=0) + 1024):
        slice_ = dataset(plane, index=index // 2, patient=f"anon{index % 2}")
        save(slice_, tmp_path / f"{index}.dcm")
    volumes, problems = found(tmp_path)
    assert sorted((volume.patient, len(volume)) for volume in volumes) == [
        ("anon0", 3),
        ("anon1", 3),
    ]
    assert problems.lines == []


def nifti(path, values):
    image = nibabel.Nifti1Image(values, np.diag([0.7, 0.7, 5, 1]))
    image.to_filename(path)


def test_names_with_dots_keep_their_patients(tmp_path):
    for number in range(1000, 1003):
        values = np.full((8, 8, 3), -number, "int16")
        nifti(tmp_path / f"1.3.6.1.4.1.{number}.nii.gz", values)
    volumes, _ = found(tmp_path)
    assert sorted(volume.patient for volume in volumes) == [
        f"1.3.6.1.4.1.{number}" for number in range(1000, 1003)
    ]


def test_voxels_that_are_not_numbers_are_a_problem(tmp_path):
    values = np.full((8, 8, 3), -600, "float32")
    values[::2] = np.nan
    nifti(tmp_path / "x.nii.gz", values)
    volumes, problems = found(tmp_path)
    assert volumes == ()
    assert problems.counts == {"volumes with voxels that are not numbers": 1}
    assert "96 voxels" in problems.lines[0]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("shared", [True, False])
def test_enhanced_ct_is_read(tmp_path, syntax, shared):
    enhanced(tmp_path / "x.dcm", HU, syntax, shared)
    (volume,), problems = found(tmp_path)
    assert problems.lines == []
    assert volume.instances == (2, 3, 1)
    assert volume.spacing == (0.7, 0.7)
    assert volume.geometry.heights.tolist() == [0, 2.5, 5]
    for index, plane in enumerate(HU):
        np.testing.assert_array_equal(volume.read_slice(index), plane)
    given = table(tmp_path / "a.csv", "slice,x,y,label", "1,40,40,GGO")
    assert (
        run(tmp_path, "--annotations", given, "--out", tmp_path.with_name(f"{tmp_path.name}-out"))[
            0
        ]
        == 0
    )
    given = table(tmp_path / "b.csv", "sop,x,y,label", f"{ROOT}.1.1,40,40,GGO")
    _, _, lines = run(tmp_path, "--annotations", given, "--check")
    assert "3 slices have" in lines[0]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (
            lambda d: delattr(d.PerFrameFunctionalGroupsSequence[1], "PlanePositionSequence"),
            "files with an incomplete header",
        ),
        (
            lambda d: delattr(
                d.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence[0],
                "RescaleSlope",
            ),
            "files not in Hounsfield units",
        ),
        (lambda d: setattr(d, "Modality", "MR"), "files of another modality"),
        (lambda d: setattr(d, "NumberOfFrames", 4), "truncated files"),
        (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), "multi-frame files"),
    ],
)
def test_enhanced_ct_that_cannot_be_used_has_one_line(tmp_path, change, kind):
    data = enhanced(tmp_path / "x.dcm", HU)
    change(data)
    save(data, tmp_path / "x.dcm")
    _, problems = found(tmp_path)
    assert problems.counts == {kind: 1}
    assert len(problems.lines) == 1


def intervals(folder, heights, numbers):
    for height, number in zip(heights, numbers, strict=True):
        place = {"ImagePositionPatient": [-30, -20, height], "InstanceNumber": number}
        save(dataset(HU[0] + 1024, index=number, **place), folder / f"{number}.dcm")
    return folder


@pytest.mark.parametrize("numbers", [range(1, 7), range(9, 3, -1)])
def test_intervals_of_several_sizes_are_not_missing_slices(tmp_path, numbers):
    (volume,), problems = found(intervals(tmp_path, [0, 10, 20, 30, 50, 70], numbers))
    assert (problems.lines, volume.complete) == ([], True)
    shown = run(tmp_path, "--check")[1]
    assert "10 to 20" in shown


def test_slices_are_missing_where_numbers_are(tmp_path):
    (volume,), problems = found(intervals(tmp_path, [0, 10, 20, 30, 50, 60], [1, 2, 3, 4, 6, 7]))
    assert (problems.counts, volume.complete) == ({"missing slices": 1}, False)


def test_check_describes_the_input(tmp_path):
    series(tmp_path / "in" / "a", HU, ImageOrientationPatient=[1, 0, 0, 0, 0.94, -0.342])
    nifti(tmp_path / "in" / "b.nii.gz", np.full((8, 6, 4), -600, "int16"))
    save(dataset(HU[0] + 1024, uid=f"{ROOT}.5", Modality="PT"), tmp_path / "in" / "c.dcm")
    Image.new("L", (9, 9)).save(tmp_path / "in" / "preview.png")
    (tmp_path / "in" / "._a.dcm").write_bytes(b"an archive's resource fork")
    code, shown, lines = run(tmp_path / "in", "--check")
    assert code == 2
    assert "c.dcm: modality PT, not CT" in lines[0]
    header, first, second, total = [line.split("  ") for line in shown.splitlines()[:4]]
    assert header[0].strip() == "series"
    cells = [[cell.strip() for cell in row if cell.strip()] for row in (first, second, total)]
    assert cells[0][1:] == ["1", "3", "80 x 96", "0.7 x 0.7", "2.349", "LPH, tilted 20"]
    assert cells[1] == ["b.nii.gz", "2", "4", "6 x 8", "0.7 x 0.7", "5", "LPH"]
    assert cells[2] == ["total: 2", "2", "7"]
    assert shown.splitlines()[4:] == [
        "left out: 1 files of another modality", "1 files that are not CT images",
    ]  # fmt: skip
    assert run(tmp_path / "in", "--check", "--skip-bad")[0] == 0
    code, _, lines = run(tmp_path / "in", "--out", tmp_path / "out")
    assert code == 2
    assert "--annotations" in lines[-1]


def test_masks_of_an_nnunet_folder(tmp_path):
    """Images are NAME_0000.nii.gz, masks NAME.nii.gz, with files of a Mac's archive between."""
    for name in ("x", "y"):
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "in").mkdir(exist_ok=True)
        nifti(tmp_path / "in" / f"{name}_0000.nii.gz", np.full((40, 40, 2), -600, "int16"))
        nifti(tmp_path / "masks" / f"{name}.nii.gz", np.ones((40, 40, 2), "uint8"))
        (tmp_path / "masks" / f"._{name}.nii.gz").write_bytes(b"resource fork")
    volumes, _ = found(tmp_path / "in")
    assert [volume.patient for volume in volumes] == ["x", "y"]
    names = table(tmp_path / "names.csv", "value,label", "1,GGO")
    given = ["--annotations", tmp_path / "masks", "--labels", names, "--out", tmp_path / "out"]
    code, _, lines = run(tmp_path / "in", *given)
    assert (code, lines) == (0, [])
    assert len(rows(tmp_path / "out")) == 4


def test_a_volume_without_an_orientation_is_a_problem(tmp_path):
    image = nibabel.Nifti1Image(np.full((8, 8, 3), -600, "int16"), None)
    image.to_filename(tmp_path / "x.nii.gz")
    volumes, problems = found(tmp_path)
    assert volumes == ()
    assert problems.counts == {"volumes without an orientation": 1}
    assert "sform" in problems.lines[0]


@pytest.mark.parametrize(
    ("pattern", "patients"),
    [("sub-[0-9]+", {"sub-01", "sub-02"}), ("site(.)/", {"A"}), ("folder", {"siteA"})],
)
def test_a_pattern_finds_the_patient(tmp_path, pattern, patients):
    for name in ("01", "02"):
        path = tmp_path / "in" / "siteA" / f"sub-{name}_ct.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nifti(path, np.full((8, 8, 3), -600, "int16"))
    series(tmp_path / "in" / "siteA" / "sub-02" / "dicom", HU)
    shown = run(tmp_path / "in", "--check", "--patient", pattern)[1]
    assert shown.splitlines()[4].split()[2] == str(len(patients))


@pytest.mark.parametrize("pattern", ["(", "no such name"])
def test_a_bad_pattern_has_a_line(tmp_path, pattern):
    code, _, lines = run(changed(tmp_path), "--check", "--patient", pattern)
    assert (code, len(lines)) == (2, 1)
    assert f"--patient {pattern}" in lines[0]
