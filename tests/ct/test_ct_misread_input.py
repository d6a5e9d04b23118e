"""Input that could be misread without a word: it is refused, or a note names it."""

import json
import os

import nibabel as nib
import numpy as np
import pytest
from ct_series import ROOT, contents, dataset, phantom, run, save, series, table

from stagetransfer.ct import PatchSettings, Problems, find_series
from stagetransfer.errors import UserError
from stagetransfer.inference.prediction_input import find_input

POINT = "series,instance,x,y,label", "1,100,40,40,NOR"


def found(folder, **options):
    problems = Problems()
    volumes, _ = find_series(folder, problems, **options)
    return volumes, problems


AXIAL = np.diag([-0.7, -0.7, 2.5, 1])


def nifti(path, affine=AXIAL, unit="unknown", hu=None):
    path.parent.mkdir(exist_ok=True)
    values = phantom() if hu is None else hu
    image = nib.Nifti1Image(values.transpose(2, 1, 0).astype(np.int16), affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)


def check(tmp_path, *options):
    """Return the exit code and the lines of standard error of a count."""
    given = table(tmp_path / "a.csv", *POINT)
    code, _, lines = run(tmp_path / "in", "--annotations", given, "--check", *options)
    return code, lines


@pytest.mark.parametrize("other", ["p 1", "P  1", "P 01.0"])
def test_two_spellings_of_a_patient(tmp_path, other):
    series(tmp_path / "in" / "a", patient="P 1")
    series(tmp_path / "in" / "b", patient=other, uid=f"{ROOT}.2", number=2)
    if other == "P 01.0":  # only a whole name is a number
        assert check(tmp_path)[0] == 0
        return
    code, [line] = check(tmp_path, "--skip-bad")
    assert code == 2
    assert "a/00.dcm" in line
    assert "b/00.dcm" in line
    assert other not in line
    assert run(tmp_path / "in", "--check")[0] == 2
    with pytest.raises(UserError, match=r"a/00\.dcm"):
        find_input(tmp_path / "in", PatchSettings(), Problems())
    assert check(tmp_path, "--patient", "folder")[0] == 0


def test_a_series_uid_of_two_patients_is_noted(tmp_path):
    for number, patient in enumerate(("anon0", "anon1")):
        series(tmp_path / "in" / str(number), patient=patient)
    given = table(tmp_path / "a.csv", "series,patient,instance,x,y,label", "1,anon0,99,40,40,NOR")
    code, _, lines = run(tmp_path / "in", "--annotations", given, "--out", tmp_path / "out")
    assert code == 0
    assert len(lines) == 1
    assert lines[0].startswith("note: series of 0/00.dcm: ")
    assert "1/00.dcm" in lines[0]
    summary = json.loads(contents(tmp_path / "out")["summary.json"])
    assert summary["noted"] == {"series UIDs of several patients": 1}
    assert summary["left_out"] == {}


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1)])
def test_units_of_length_of_nifti(tmp_path, unit, scale):
    nifti(tmp_path / "unknown" / "x.nii")
    nifti(tmp_path / unit / "x.nii", np.diag([scale, scale, scale, 1]) @ AXIAL, unit)
    ((expected,), _), ((volume,), problems) = found(tmp_path / "unknown"), found(tmp_path / unit)
    assert problems.lines == []
    np.testing.assert_allclose(volume.spacing, expected.spacing, rtol=1e-5)
    np.testing.assert_allclose(volume.geometry.origins, expected.geometry.origins, rtol=1e-5)


def dicom(folder, scale=1.0, degrees=0.0):
    turn = np.radians(degrees)
    down = [0, float(np.cos(turn)), float(np.sin(turn))]
    side = f"{0.7 * scale:.4g}"
    series(folder, spacing=(side, side), ImageOrientationPatient=[1, 0, 0, *down])


def volume_file(suffix):
    def write(folder, scale=1.0, degrees=0.0):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        path = folder / f"x.{suffix}"
        if suffix == "nii.gz":
            affine = np.eye(4)
            affine[:3, :3] = turn @ AXIAL[:3, :3] * scale
            nifti(path, affine)
            return
        sitk = pytest.importorskip("SimpleITK")
        folder.mkdir()
        image = sitk.GetImageFromArray(phantom().astype(np.int16))
        image.SetSpacing([0.7 * scale, 0.7 * scale, 2.5 * scale])
        image.SetDirection(turn.ravel().tolist())
        sitk.WriteImage(image, str(path))

    return write


WRITERS = {"DICOM": dicom} | {one: volume_file(one) for one in ("nii.gz", "mha", "nrrd")}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"scale": 1e-2}, "series of impossible pixel sizes"),
        ({"scale": 50.0}, "series of impossible pixel sizes"),
        ({"degrees": 40.0}, "series that are not axial"),
        ({"degrees": 30.0}, None),
    ],
)
def test_pixels_and_tilts_that_no_axial_ct_has(tmp_path, kind, change, problem):
    WRITERS[kind](tmp_path / "in", **change)
    volumes, problems = found(tmp_path / "in")
    assert (len(volumes), dict(problems.counts)) == ((0, {problem: 1}) if problem else (1, {}))


@pytest.mark.parametrize("name", ["units", "splits", "slices", "point"])
def test_a_column_that_is_nearly_a_known_one(tmp_path, name):
    series(tmp_path / "in")
    table(tmp_path / "b.csv", f"instance,x,y,label,{name}", "100,40,40,NOR,1")
    code, _, lines = run(tmp_path / "in", "--annotations", tmp_path / "b.csv", "--check")
    assert (code, len(lines)) == (2, 1)
    assert "b.csv: " in lines[0]
    assert repr(name) in lines[0]


def test_columns_without_a_meaning_are_noted(tmp_path):
    series(tmp_path / "in")
    rows = "instance,x,y,label,reader,comment,", "100,40,40,NOR,Anna,,", "99,40,40,NOR,Bert,sure,"
    given = ["--annotations", table(tmp_path / "b.csv", *rows), "--out", tmp_path / "out"]
    code, _, lines = run(tmp_path / "in", *given)
    assert (code, len(lines)) == (0, 1)
    assert lines[0].startswith("note: ")
    assert lines[0].endswith(": reader, comment")
    summary = json.loads(contents(tmp_path / "out")["summary.json"])
    assert summary["noted"] == {"columns that are not used": 1}


@pytest.mark.parametrize("place", ["40,40", "40,"])
def test_points_beside_a_position(tmp_path, place):
    series(tmp_path / "in")
    rows = "instance,x,y,points,label", f"100,{place},20 16; 70 16; 70 60; 20 60,NOR"
    given = table(tmp_path / "b.csv", *rows)
    code, _, lines = run(tmp_path / "in", "--annotations", given, "--check")
    assert code == 2
    assert "b.csv line 2: points and x" in lines[0]


@pytest.mark.parametrize(("shift", "factor"), [(1024, 1), (1024, 0.125), (0, 1)])
def test_a_volume_without_air_is_noted(tmp_path, shift, factor):
    nifti(tmp_path / "in" / "x.nii.gz", hu=(phantom() + shift) * factor)
    volumes, problems = found(tmp_path / "in")
    assert (len(volumes), problems.lines) == (1, [])
    kinds = {"volumes that may not be in Hounsfield units": 1} if shift else {}
    assert dict(problems.noted) == kinds


@pytest.mark.parametrize(
    ("kind", "options", "name"),
    [
        ("DICOM", ["--png-rescale", "1/-1024", "--png-spacing", 0.7], "--png-rescale"),
        ("nii.gz", ["--unspecified-hu"], "--unspecified-hu"),
    ],
)
def test_options_that_no_file_uses(tmp_path, kind, options, name):
    WRITERS[kind](tmp_path / "in")
    code, lines = check(tmp_path, *options)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"error: {name}: ")


@pytest.mark.parametrize(("number", "depth", "count"), [("98", 5, 0), ("100", 5, 1), ("100", 1, 1)])
def test_patches_at_an_end_of_a_series_are_counted(tmp_path, number, depth, count):
    series(tmp_path / "in", phantom(depth))
    given = table(tmp_path / "a.csv", "instance,x,y,label", f"{number},40,40,NOR")
    options = ["--annotations", given, "--out", tmp_path / "out", "--neighbours", 1]
    code, shown, _ = run(tmp_path / "in", *options)
    assert code == 0
    assert f"{count} patches at an end of a series" in shown or not count
    summary = json.loads(contents(tmp_path / "out")["summary.json"])
    assert summary["repeated_neighbours"] == count


def test_floating_point_pixels_are_named(tmp_path):
    data = dataset(phantom()[0] + 1024)
    data.FloatPixelData = np.zeros((80, 96), np.float32).tobytes()
    del data.PixelData
    save(data, tmp_path / "x.dcm")
    volumes, problems = found(tmp_path)
    assert (volumes, dict(problems.counts)) == ((), {"files with floating-point pixels": 1})
    assert "FloatPixelData" in problems.lines[0]


def test_a_pipe_or_device_is_no_input(tmp_path):
    series(tmp_path / "in")
    os.mkfifo(tmp_path / "pipe")
    for root, given in (("/dev/null", tmp_path / "in"), (tmp_path / "in", tmp_path / "pipe")):
        code, _, lines = run(root, "--annotations", given, "--check")
        assert (code, len(lines)) == (2, 1)
        bad = root if root == "/dev/null" else given
        assert lines[0].startswith(f"error: {bad}: a pipe or a device")
