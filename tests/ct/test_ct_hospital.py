"""CT as hospitals and archives write it, modelled on public files: read right, or named."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from pydicom.multival import MultiValue
from pydicom.uid import CTImageStorage, MediaStorageDirectoryStorage

from ct.ct_series import ROOT, dataset, phantom, run, save, series, table
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
        ({"RescaleIntercept": None}, "RescaleIntercept"),
        ({"RescaleIntercept": ""}, "RescaleIntercept"),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "RescaleSlope"),
        ({"RescaleType": "US"}, "RescaleType"),
        ({"RescaleType": "OD"}, "RescaleType"),
    ],
)
def test_stored_values_never_pass_as_hounsfield_units(tmp_path, tags, name):
    for index, plane in enumerate(HU + 1024):
        save(dataset(plane, index=index, **tags), tmp_path / f"{index}.dcm")
    volumes, problems = found(tmp_path)
    assert volumes == ()
    assert len(problems.lines) == 3
    assert all(name in line for line in problems.lines)


def test_a_directory_file_is_left_out(tmp_path):
    folder = changed(tmp_path)
    data = dataset(HU[0] + 1024, SOPClassUID=None)
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    save(data, folder / "DICOMDIR")
    volumes, problems = found(folder)
    assert (len(volumes), len(volumes[0]), problems.lines) == (1, 3, [])


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
