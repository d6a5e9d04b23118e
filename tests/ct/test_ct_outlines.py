"""RT structure sets, ROIs of ImageJ and segmentations of 3D Slicer select the pixels of the box."""

import sys
import zipfile

import numpy as np
import pytest
import roifile
import SimpleITK as sitk
from annotation_files import contour, structure_set
from ct_series import ROOT, assert_same_data_set, dataset, labels, phantom, rows, run, save, series

from stagetransfer.ct import Polygon, Raster

pytest_plugins = ["annotated_series"]

PIXELS = np.array([[19.5, 9.5], [83.5, 9.5], [83.5, 41.5], [19.5, 41.5]])  # the box's corners
HOLE = np.array([[39.5, 19.5], [59.5, 19.5], [59.5, 29.5], [39.5, 29.5]])


@pytest.mark.parametrize("sop", [True, False])
@pytest.mark.parametrize("turn", [1, -1])
def test_a_structure_set(box, tmp_path, sop, turn):
    """By the slice's UID or by the position; in both directions of drawing."""
    path = structure_set(tmp_path / "rs.dcm", {"GGO": [contour(PIXELS[::turn], sop=sop)]})
    assert_same_data_set(box, tmp_path, "--annotations", path)


def test_a_slice_with_an_unknown_uid_is_found_by_its_position(box, tmp_path):
    """The UIDs of one of the two files were replaced."""
    other = contour(PIXELS)
    other.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    path = structure_set(tmp_path / "rs.dcm", {"GGO": [other]})
    assert_same_data_set(box, tmp_path, "--annotations", path)


def test_contours_of_two_series_are_read_with_their_own(tmp_path, scans):
    uid = f"{ROOT}.7"
    series(tmp_path / "in" / "P2", uid=uid, patient="B")
    other = contour(PIXELS, index=3)
    other.ContourImageSequence[0].ReferencedSOPInstanceUID = f"{uid}.4"
    path = structure_set(tmp_path / "rs.dcm", {"GGO": [contour(PIXELS), other]})
    code, _, lines = run(tmp_path / "in", "--annotations", path, "--out", tmp_path / "out")
    assert (code, lines) == (0, [])
    found = {(row["patient"], row["slice"]) for row in rows(tmp_path / "out")}
    assert len(found) == 2
    assert {number for _, number in found} == {"1", "3"}


def test_the_names_of_regions_can_be_chosen(box, tmp_path):
    body = contour(np.array([[0, 0], [90, 0], [90, 70], [0, 70.0]]))
    path = structure_set(tmp_path / "rs.dcm", {"BODY": [body], "Tumour": [contour(PIXELS)]})
    names = labels(tmp_path, "2,GGO", "*,")
    assert_same_data_set(box, tmp_path, "--annotations", path, "--labels", names)


def test_a_structure_set_without_references_belongs_to_the_only_series(box, tmp_path):
    path = structure_set(tmp_path / "rs.dcm", {"GGO": [contour(PIXELS, sop=False)]}, uid="")
    assert_same_data_set(box, tmp_path, "--annotations", path)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (contour(PIXELS + 20), "annotations outside the image"),
        (contour(PIXELS, lift=1.5), "annotations of no slice"),
        (contour(PIXELS, sop=False, lift=100), "annotations of no slice"),
        (contour(PIXELS[:1], kind="POINT"), "outlines that enclose nothing"),
        (contour(PIXELS, kind="OPEN_PLANAR"), "outlines that enclose nothing"),
    ],
)
def test_contours_that_are_left_out(tmp_path, scans, bad, kind):
    path = structure_set(tmp_path / "rs.dcm", {"GGO": [contour(PIXELS), bad]})
    code, _, lines = run(tmp_path / "in", "--annotations", path, "--out", tmp_path / "out")
    assert (code, len(lines)) == (2, 2)
    assert "rs.dcm contour 2" in lines[0]
    _, shown, _ = run(tmp_path / "in", "--annotations", path, "--check", "--skip-bad")
    assert f"left out: 1 {kind}" in shown


@pytest.mark.parametrize("change", ["uid", "data", "modality"])
def test_a_structure_set_that_cannot_be_used(tmp_path, scans, change):
    good = contour(PIXELS)
    if change == "data":
        good.ContourData = [1, 2, 3, 4]
    path = structure_set(tmp_path / "rs.dcm", {"GGO": [good]})
    if change == "uid":
        series(tmp_path / "in", uid="1.2.3")
        path = structure_set(path, {"GGO": [contour(PIXELS, sop=False)]}, uid="1.2.4")
    if change == "modality":
        save(dataset(np.zeros((2, 2))), path)
    code, _, lines = run(tmp_path / "in", "--annotations", path, "--out", tmp_path / "out")
    assert (code, len(lines)) == (2, 2)
    assert lines[0].startswith("error: rs.dcm: ")


def test_rings_are_joined_to_the_pixels_inside_an_odd_number():
    raster, rings = Raster((60, 90)), [PIXELS, HOLE, HOLE + np.array([30, 3])]
    drawn = [raster.draw(Polygon(ring)) for ring in rings]
    expected = drawn[0] ^ drawn[1] ^ drawn[2]
    assert drawn[1].sum() == 200
    assert (raster.draw(Polygon.of_rings(rings)) == expected).all()


def roi(pixels, **given):
    """An ROI in ImageJ's coordinates, whose first pixel reaches from 0 to 1."""
    made = roifile.ImagejRoi.frompoints(pixels + 0.5, **{"name": "GGO", **given})
    made.position = given.get("position", 0)
    return made


def rectangle():
    made = roifile.ImagejRoi()
    made.roitype, made.name = roifile.ROI_TYPE.RECT, "GGO"
    made.left, made.top, made.right, made.bottom = 20, 10, 84, 42
    return made


@pytest.mark.parametrize("made", [roi(PIXELS), roi(PIXELS[::-1]), rectangle()])
def test_an_roi_named_like_its_slice(box, tmp_path, made):
    made.tofile(tmp_path / "01.roi")
    assert_same_data_set(box, tmp_path, "--annotations", tmp_path / "01.roi")


def test_an_roi_manager_file_named_like_its_series(box, tmp_path):
    """ImageJ counts from 1 in the order of the instance numbers, which fall with the height."""
    path = tmp_path / "rois" / "P1" / "scan.zip"
    path.parent.mkdir(parents=True)
    body = roi(PIXELS, name="0004-0100-0100", position=2)
    body.group = 7
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.roi", roi(PIXELS, position=4).tobytes())
        archive.writestr("b.roi", body.tobytes())
    names = labels(tmp_path, "GGO,GGO", "7,")
    given = ["--annotations", tmp_path / "rois", "--labels", names]
    assert_same_data_set(box, tmp_path, *given)


def test_ovals_and_points(tmp_path, scans):
    oval = rectangle()
    oval.roitype = roifile.ROI_TYPE.OVAL
    oval.tofile(tmp_path / "01.roi")
    given = ["--annotations", tmp_path / "01.roi", "--coverage", "0.9", "--size", "20"]
    assert run(tmp_path / "in", *given, "--out", tmp_path / "oval")[0] == 0
    assert {row["label"] for row in rows(tmp_path / "oval")} == {"GGO"}
    point = roi(np.array([[39.5, 29.5]]))  # ImageJ names the pixel 40, 30
    point.roitype = roifile.ROI_TYPE.POINT
    point.tofile(tmp_path / "01.roi")
    run(tmp_path / "in", "--annotations", tmp_path / "01.roi", "--out", tmp_path / "out")
    assert [(row["slice"], row["x"], row["y"]) for row in rows(tmp_path / "out")] == [
        ("1", "39.50", "29.50")
    ]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (roi(PIXELS, position=6), "annotations of no slice"),
        (roi(PIXELS), "annotations of no slice"),
        (roi(PIXELS + 20, position=4), "annotations outside the image"),
    ],
)
def test_rois_that_are_left_out(tmp_path, scans, made, kind):
    made.tofile(tmp_path / "scan.roi")
    given = ["--annotations", tmp_path / "scan.roi", "--check", "--skip-bad"]
    code, shown, lines = run(tmp_path / "in", *given)
    assert (code, len(lines)) == (0, 1)
    assert f"left out: 1 {kind}" in shown


def test_positions_are_uncertain_where_slices_are_missing(tmp_path, scans):
    (scans / "02.dcm").unlink()
    roi(PIXELS, position=2).tofile(tmp_path / "scan.roi")
    given = ["--annotations", tmp_path / "scan.roi", "--check", "--skip-bad"]
    assert "left out: 1 annotations of an uncertain slice" in run(tmp_path / "in", *given)[1]


@pytest.mark.parametrize("content", [b"", b"Iout" + bytes(70), b"junk" * 50])
@pytest.mark.parametrize("suffix", ["roi", "zip"])
def test_damaged_rois(tmp_path, scans, content, suffix):
    (tmp_path / f"01.{suffix}").write_bytes(content)
    given = ["--annotations", tmp_path / f"01.{suffix}", "--check"]
    code, _, lines = run(tmp_path / "in", *given)
    assert (code, len(lines)) == (2, 2)
    assert lines[0].startswith(f"error: 01.{suffix}")


def slicer(path, values):
    """Write a mask as 3D Slicer does: cropped, with the names of its segments."""
    image = sitk.GetImageFromArray(values[1:4, 5:45, 10:90].astype(np.uint8))
    image.SetSpacing((0.7, 0.7, 2.5))
    image.SetOrigin((-30 + 7, -20 + 3.5, -97.5))
    for number, (value, name) in enumerate([(2, "GGO"), (5, "artefact")]):
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        image.SetMetaData(f"Segment{number}_Name", name)
    sitk.WriteImage(image, str(path), True)
    return path


@pytest.mark.parametrize("name", ["m.seg.nrrd", "m.nrrd", "m.mha", "m.mhd"])
def test_masks_of_slicer_and_itk(box, tmp_path, name):
    values = np.zeros(phantom().shape)
    values[1, 10:42, 20:84], values[3, 20:40, 20:40] = 2, 5
    given = ["--annotations", slicer(tmp_path / name, values)]
    if name == "m.seg.nrrd":
        code, _, lines = run(tmp_path / "in", *given, "--out", tmp_path / "own")
        assert (code, lines[1:]) == (0, [])
        assert {row["label"] for row in rows(tmp_path / "own")} == {"GGO"}
        assert "too small" in lines[0]
    assert_same_data_set(box, tmp_path, *given, "--labels", labels(tmp_path))


@pytest.mark.parametrize(("module", "name"), [("SimpleITK", "m.mha"), ("roifile", "01.roi")])
def test_a_missing_extra_is_named(tmp_path, scans, monkeypatch, module, name):
    (tmp_path / name).write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, module, None)
    given = ["--annotations", tmp_path / name, "--labels", labels(tmp_path), "--check"]
    code, _, lines = run(tmp_path / "in", *given)
    assert (code, len(lines)) == (2, 1)
    assert module in lines[0]
    assert "stagetransfer[formats]" in lines[0]
