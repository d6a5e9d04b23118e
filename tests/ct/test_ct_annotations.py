"""Points, boxes, polygons and masks of every format select the same pixels."""

import nibabel as nib
import numpy as np
import pytest
from annotation_files import segmentation
from ct_series import ROOT, assert_same_data_set, labels, phantom, rows, run, series, table
from PIL import Image

from stagetransfer.formats import dicom_file
from stagetransfer.formats.dicom_seg_reader import read_segmentation
from stagetransfer.formats.unusable import Unreadable

pytest_plugins = ["annotated_series"]

BOX = {"left": 20, "top": 10, "width": 64, "height": 32}
INSIDE = np.s_[1, 10:42, 20:84]


def mask():
    """Return (Z, H, W): 2 in the box, 5 in a small square on another slice."""
    values = np.zeros((5, 80, 96), dtype=np.uint8)
    values[INSIDE] = 2
    values[3, 40:50, 40:50] = 5
    return values


def test_a_box_is_filled_by_two_patches(box, tmp_path):
    found = rows(tmp_path / "box")
    assert [(row["x"], row["y"], row["label"]) for row in found] == [
        ("35.50", "25.50", "GGO"),
        ("67.50", "25.50", "GGO"),
    ]
    expected = np.floor(np.clip((phantom()[1, 10:42, 20:52] + 1350) / 1500, 0, 1) * 255 + 0.5)
    assert (np.asarray(Image.open(tmp_path / "box" / found[0]["file"])) == expected).all()


@pytest.mark.parametrize(
    ("header", "where"),
    [
        ("series,slice", "1,1"),
        ("series,instance", "1,99"),
        ("series,z", "1,-97.5"),
        ("series,z", "1,-96.6"),
        ("Series , Slice", "P1/scan , 1"),
        ("series,slice", "P1\\scan\\,1"),
        ("series,slice", "1.2.826.0.1.3680043.8.498.1,1"),
        ("file", "P1/scan/01.dcm"),
        ("file,slice", "P1/scan/01.dcm,1"),
        ("patient,instance", "A,99"),
        ("sop", f"{ROOT}.1.2"),
        ("series,sop", f"1,{ROOT}.1.2"),
    ],
)
def test_a_series_and_a_slice_have_several_names(box, tmp_path, header, where):
    given = table(
        tmp_path / "b.csv", f"{header},x,y,width,height,label", f"{where},20,10,64,32,GGO"
    )
    assert_same_data_set(box, tmp_path, "--annotations", given)


def test_a_polygon(box, tmp_path):
    points = "19.6 9.6; 83.4 9.6; 83.4 41.4; 19.6 41.4"
    given = table(tmp_path / "b.csv", "slice,points,label", f"1,{points},GGO")
    assert_same_data_set(box, tmp_path, "--annotations", given)


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("x,y,width,height,unit", "13.65,6.65,44.8,22.4,mm"),
        ("x,y,width,height,unit", "-16.35,-13.35,44.8,22.4,patient"),
        ("points,unit", "13.7 6.7; 58.4 6.7; 58.4 28.9; 13.7 28.9,mm"),
        ("points,unit", "-16.3 -13.3; -16.3 8.9; 28.4 8.9; 28.4 -13.3,patient"),
        ("x,y,width,height,unit", "20,10,64,32,pixel"),
        ("x,y,width,height,unit", "20,10,64,32,"),
    ],
)
def test_positions_in_millimetres(box, tmp_path, header, cells):
    """The slices begin at -30, -20 mm, and their pixels are 0.7 mm wide."""
    given = table(tmp_path / "b.csv", f"sop,{header},label", f"{ROOT}.1.2,{cells},GGO")
    assert_same_data_set(box, tmp_path, "--annotations", given)


def test_a_point_in_the_patient_of_a_turned_slice(tmp_path):
    """Prone: rows run to the right, columns to the front."""
    turned = {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0], "ImagePositionPatient": [30, 20, 5]}
    series(tmp_path / "in", phantom(1), **turned)
    given = table(tmp_path / "a.csv", "x,y,unit,label", "-5,-8,patient,GGO")
    assert run(tmp_path / "in", "--annotations", given, "--out", tmp_path / "out")[0] == 0
    (row,) = rows(tmp_path / "out")
    assert float(row["x"]) == pytest.approx(35 / 0.7, abs=1)
    assert float(row["y"]) == pytest.approx(28 / 0.7, abs=1)


@pytest.mark.parametrize(
    ("header", "cells", "name"),
    [
        ("instance", "99.9", "99.9"),
        ("sop", "1.2.3", "sop 1.2.3"),
        ("slice,unit", "1,cm", "unit"),
    ],
)
def test_rows_of_no_slice_or_unit(tmp_path, scans, header, cells, name):
    given = table(tmp_path / "b.csv", f"{header},x,y,label", f"{cells},40,40,GGO")
    code, _, lines = run(tmp_path / "in", "--annotations", given, "--out", tmp_path / "out")
    assert code == 2
    assert name in lines[0]


def test_coverage_counts_the_pixels_inside_a_polygon(tmp_path, scans):
    # Half of the patch's square lies below the diagonal.
    given = table(tmp_path / "b.csv", "slice,points,label", "1,10 10; 42 42; 10 42,GGO")
    for coverage, total in (("0.45", "1"), ("0.55", "0")):
        arguments = ["--annotations", given, "--check", "--coverage", coverage]
        shown = run(tmp_path / "in", *arguments)[1].splitlines()
        assert shown[1].split()[-1] == total


def test_indexed_png_masks(box, tmp_path):
    for index, values in enumerate(mask()):
        path = tmp_path / "masks" / "P1" / "scan" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(values)
        image.putpalette([0, 0, 0, 255, 0, 0] * 128)
        assert image.mode == "P"
        image.save(path)
    assert_same_data_set(
        box, tmp_path, "--annotations", tmp_path / "masks", "--labels", labels(tmp_path)
    )


def test_masks_may_lie_below_the_input(box, tmp_path):
    path = tmp_path / "in" / "masks" / "P1" / "scan" / "01.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(mask()[1]).save(path)
    given = ["--annotations", tmp_path / "in" / "masks", "--labels", labels(tmp_path)]
    assert_same_data_set(box, tmp_path, *given)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PSR"])
def test_a_nifti_mask_is_placed_by_its_position(box, tmp_path, axes):
    affine = np.diag([-0.7, -0.7, 2.5, 1])
    affine[:3, 3] = [30, 20, -100]  # the DICOM corner in NIfTI's axes
    image = nib.Nifti1Image(mask().transpose(2, 1, 0), affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(axes)
    )
    nib.save(image.as_reoriented(turn), tmp_path / "mask.nii.gz")
    given = ["--annotations", tmp_path / "mask.nii.gz", "--labels", labels(tmp_path)]
    assert_same_data_set(box, tmp_path, *given)


def test_a_nifti_mask_with_an_intercept(box, tmp_path):
    affine = np.diag([-0.7, -0.7, 2.5, 1])
    affine[:3, 3] = [30, 20, -100]
    image = nib.Nifti1Image(mask().transpose(2, 1, 0) + 10, affine)
    image.header.set_slope_inter(1, -10)
    nib.save(image, tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").get_fdata().max() == 5
    given = ["--annotations", tmp_path / "mask.nii", "--labels", labels(tmp_path)]
    assert_same_data_set(box, tmp_path, *given)


def test_a_finer_nifti_mask_of_a_part(box, tmp_path):
    # Half the pixel size, and a part of two slices: the mask fits only by its position.
    part = mask()[1:3, 4:64, 10:90].repeat(2, axis=1).repeat(2, axis=2)
    affine = np.diag([-0.35, -0.35, 2.5, 1])
    affine[:3, 3] = [30 - 0.7 * 10 + 0.175, 20 - 0.7 * 4 + 0.175, -97.5]
    nib.save(nib.Nifti1Image(part.transpose(2, 1, 0), affine), tmp_path / "mask.nii")
    given = ["--annotations", tmp_path / "mask.nii", "--labels", labels(tmp_path)]
    assert_same_data_set(box, tmp_path, *given)


@pytest.mark.parametrize("background", [0, np.nan])
def test_a_thick_voxel_labels_every_slice_that_it_covers(tmp_path, background):
    """Voxels of 10 mm over slices of 2.5 mm; those without a value are background."""
    series(tmp_path / "in", phantom(9))
    values = np.full((96, 80, 2), background, np.float32)
    values[20:84, 10:42, 1] = 2
    affine = np.diag([-0.7, -0.7, 10, 1])
    affine[:3, 3] = [30, 20, -100 + 3.75]  # over slices 0 to 3, and 4 to 7
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "mask.nii")
    given = ["--annotations", tmp_path / "mask.nii", "--labels", labels(tmp_path)]
    code, _, lines = run(tmp_path / "in", *given, "--out", tmp_path / "out")
    assert (code, lines) == (0, [])
    found = [row["slice"] for row in rows(tmp_path / "out")]
    assert sorted(found) == ["4", "4", "5", "5", "6", "6", "7", "7"]


def test_labels_choose_among_the_values_of_a_mask(box, tmp_path):
    path = tmp_path / "masks" / "P1" / "scan" / "01.png"
    path.parent.mkdir(parents=True)
    values = mask()[1]
    values[50:70] = np.arange(100, 196)
    Image.fromarray(values).save(path)
    names = labels(tmp_path, "2,GGO", "*,")
    assert_same_data_set(box, tmp_path, "--annotations", tmp_path / "masks", "--labels", names)


def test_png_masks_of_names_with_dots(tmp_path):
    source = series(tmp_path / "made")
    (tmp_path / "in").mkdir()
    for index in range(5):
        (source / f"{index:02d}.dcm").rename(tmp_path / "in" / f"1.2.840.{index}")
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask()[1]).save(tmp_path / "masks" / "1.2.840.1.png")
    given = ["--annotations", tmp_path / "masks", "--labels", labels(tmp_path)]
    code, _, lines = run(tmp_path / "in", *given, "--out", tmp_path / "out")
    assert (code, lines) == (0, [])
    assert [row["slice"] for row in rows(tmp_path / "out")] == ["1", "1"]


def test_a_nifti_mask_outside_the_slices(tmp_path, scans):
    affine = np.diag([-0.7, -0.7, 2.5, 1])
    affine[:3, 3] = [90, 20, -100]
    nib.save(nib.Nifti1Image(mask().transpose(2, 1, 0), affine), tmp_path / "mask.nii")
    given = ["--annotations", tmp_path / "mask.nii", "--labels", labels(tmp_path)]
    code, _, lines = run(tmp_path / "in", *given, "--out", tmp_path / "out")
    assert code == 2
    assert "labelled voxels lie outside its series' slices" in lines[0]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_dicom_segmentation(box, tmp_path, scans, kind):
    segmentation(scans, kind, mask()).save_as(tmp_path / "seg.dcm")
    names = labels(tmp_path, "GGO,GGO", "2,")
    assert_same_data_set(box, tmp_path, "--annotations", tmp_path / "seg.dcm", "--labels", names)


def test_frames_of_one_bit_count_an_eighth(tmp_path, monkeypatch):
    series(tmp_path / "in", np.zeros((4, 512, 520)))
    values = np.zeros((4, 512, 520), np.uint8)
    values[:, 100:200, 50:101] = 2
    values[2, :9, :9] = 5
    for kind in ("BINARY", "FRACTIONAL"):
        segmentation(tmp_path / "in", kind, values).save_as(tmp_path / f"{kind}.dcm")
    monkeypatch.setattr(dicom_file, "MAX_VALUES", values.size // 4)
    frames = read_segmentation(tmp_path / "BINARY.dcm").frames
    found = {}
    for frame in frames:
        key = float(frame.affine[2, 3])
        found[key] = found.get(key, 0) + frame.values
    expected = np.select([values == 2, values == 5], [1, 2])
    assert np.array_equal([found[key] for key in sorted(found)], expected)
    assert sum(frame.stored.nbytes for frame in frames) == 5 * 512 * 520 / 8
    with pytest.raises(Unreadable, match="its content is larger"):
        read_segmentation(tmp_path / "FRACTIONAL.dcm")
    monkeypatch.setattr(dicom_file, "MAX_VALUES", 5 * 512 * 520 // 8 - 1)
    with pytest.raises(Unreadable, match="its content is larger"):
        read_segmentation(tmp_path / "BINARY.dcm")


def test_a_segmentations_own_names(tmp_path, scans):
    # It lies below the input, but as the annotation it is not reported as another modality.
    segmentation(scans, "BINARY", mask()).save_as(tmp_path / "in" / "seg.dcm")
    given = ["--annotations", tmp_path / "in" / "seg.dcm", "--coverage", "0.05"]
    code, _, lines = run(tmp_path / "in", *given, "--out", tmp_path / "out")
    assert (code, lines) == (0, [])
    assert sorted(row["label"] for row in rows(tmp_path / "out")) == ["GGO", "GGO", "artefact"]


@pytest.mark.parametrize(
    "cosines", [[1, 0, 0, 0, 0, -1], [1, 0, 0, 0, 0.94, 0.342], [0.94, 0, 0.342, 0, 1, 0]]
)
def test_a_coronal_or_tilted_segmentation_is_refused(tmp_path, scans, cosines):
    made = segmentation(scans, "BINARY", mask())
    for group in [*made.SharedFunctionalGroupsSequence, *made.PerFrameFunctionalGroupsSequence]:
        for one in group.get("PlaneOrientationSequence", []):
            one.ImageOrientationPatient = cosines
    made.save_as(tmp_path / "seg.dcm")
    given = ["--annotations", tmp_path / "seg.dcm"]
    code, _, lines = run(tmp_path / "in", *given, "--out", tmp_path / "out")
    assert (code, len(lines)) == (2, 2)
    assert lines[0].startswith("error: seg.dcm: its frames are not parallel")


def test_a_segmentation_of_another_series(tmp_path, scans):
    segmentation(scans, "BINARY", mask()).save_as(tmp_path / "seg.dcm")
    series(tmp_path / "other", uid="1.2.3")
    given = ["--annotations", tmp_path / "seg.dcm"]
    code, _, lines = run(tmp_path / "other", *given, "--out", tmp_path / "out")
    assert code == 2
    assert lines[0] == "error: seg.dcm: the series it segments is not in the input"


def test_values_without_a_name(tmp_path, scans):
    path = tmp_path / "masks" / "P1" / "scan" / "03.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(mask()[3]).save(path)
    given = ["--annotations", tmp_path / "masks", "--out", tmp_path / "out"]
    code, _, lines = run(tmp_path / "in", *given)
    assert (code, lines[-1].count("--labels")) == (2, 1)
    code, _, lines = run(tmp_path / "in", *given, "--labels", labels(tmp_path, "2,GGO"))
    assert code == 2
    assert lines[0] == "error: P1/scan/03.png: value 5 has no name in the table of labels"


def test_labels_rename_the_labels_of_a_table(tmp_path, scans):
    given = table(tmp_path / "b.csv", "slice,x,y,label", "1,40,40,a", "2,40,40,b", "3,40,40,c")
    names = labels(tmp_path, "a,GGO", "b,GGO", "c,")
    run(tmp_path / "in", "--annotations", given, "--labels", names, "--out", tmp_path / "out")
    assert [(row["slice"], row["label"]) for row in rows(tmp_path / "out")] == [
        ("1", "GGO"),
        ("2", "GGO"),
    ]


def test_masks_among_the_slices_are_refused(tmp_path, scans):
    given = ["--annotations", tmp_path / "in", "--labels", labels(tmp_path), "--check"]
    assert "given both as input and as annotations" in run(tmp_path / "in", *given)[2][0]
