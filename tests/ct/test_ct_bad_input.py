"""Each problem of the input is reported in one line; `--skip-bad` continues with the rest."""

import json

import nibabel as nib
import numpy as np
import pytest
from ct_series import ROOT, contents, dataset, phantom, rows, run, save, series, table
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless


@pytest.fixture
def good(tmp_path):
    """Write a valid series of 5 slices, and annotate one point on each of two slices."""
    series(tmp_path / "in" / "good")
    return table(
        tmp_path / "a.csv", "series,instance,x,y,label", "good,100,40,40,NOR", "good,97,40,40,GGO"
    )


def refused(tmp_path, annotations, *options, count=1):
    """Return the error lines of a command that must not write anything."""
    before = set(tmp_path.iterdir())
    given = ["--annotations", annotations, "--out", tmp_path / "out", *options]
    code, shown, lines = run(tmp_path / "in", *given)
    assert (code, shown) == (2, "")
    assert set(tmp_path.iterdir()) == before
    assert len(lines) == count + 1
    there = f"{count} problem{'s' if count > 1 else ''} in the input"
    assert lines[-1].startswith(f"error: {there}")
    assert lines[-1].endswith("--skip-bad")
    return lines[:-1]


def skipped(tmp_path, annotations, *options):
    """Return what a command with --skip-bad leaves out, by kind, and the slices of its patches."""
    given = ["--annotations", annotations, "--out", tmp_path / "out", "--skip-bad", *options]
    code, _, lines = run(tmp_path / "in", *given)
    assert code == 0
    assert all(line.startswith("left out: ") for line in lines)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    return summary["left_out"], [row["slice"] for row in rows(tmp_path / "out")]


BAD_FILES = {
    "modality": ({"Modality": "PT"}, "modality PT, not CT", "files of another modality"),
    "localizer": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "a localizer (scout view), not a slice",
        "localizers",
    ),
    "text": (
        {"BurnedInAnnotation": "YES"},
        "text is burned into its pixels",
        "files with burned-in text",
    ),
    "frames": (
        {"NumberOfFrames": 2},
        "several frames without a position of each. Convert it to one file per slice",
        "multi-frame files",
    ),
    "position": (
        {"ImagePositionPatient": None},
        "no ImagePositionPatient in the header",
        "files with an incomplete header",
    ),
    "spacing": (
        {"PixelSpacing": ["0", "0.7"]},
        "bad geometry (PixelSpacing is not a length)",
        "files with an incomplete header",
    ),
    "unit": (
        {"RescaleType": "US"},
        "its RescaleType is 'US', not HU. If they are HU, give --unspecified-hu",
        "files not in Hounsfield units",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_not_a_slice(tmp_path, good, name):
    header, text, kind = BAD_FILES[name]
    data = dataset(phantom()[0] + 1024, uid=f"{ROOT}.2", number=2, **header)
    save(data, tmp_path / "in" / "x" / "other.dcm")
    assert refused(tmp_path, good) == [f"error: x/other.dcm: {text}"]
    assert skipped(tmp_path, good) == ({kind: 1}, ["0", "3"])


def test_a_slice_with_an_empty_sop_class_is_read(tmp_path, good):
    path = tmp_path / "in" / "good" / "00.dcm"
    data = dcmread(path)
    data.SOPClassUID = ""
    data.save_as(path)
    assert skipped(tmp_path, good) == ({}, ["0", "3"])


def test_a_number_of_frames_that_is_no_number(tmp_path, good):
    path = tmp_path / "in" / "x" / "other.dcm"
    save(dataset(phantom()[0] + 1024, uid=f"{ROOT}.2", number=2, NumberOfFrames=77), path)
    path.write_bytes(path.read_bytes().replace(b"IS\x02\x0077", b"IS\x02\x00zz"))
    [line] = refused(tmp_path, good)
    assert line.startswith("error: x/other.dcm: bad geometry (")
    assert skipped(tmp_path, good) == ({"files with an incomplete header": 1}, ["0", "3"])


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_file_with_truncated_pixels(tmp_path, good, syntax, share):
    path = tmp_path / "in" / "good" / "01.dcm"
    if syntax:
        save(dcmread(path), path, syntax)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    [line] = refused(tmp_path, good)
    assert line.startswith("error: good/01.dcm: ")
    assert "truncated" in line
    # Its position is known, so the other slices keep their numbers.
    assert skipped(tmp_path, good) == ({"truncated files": 1}, ["0", "3"])


def test_annotations_on_a_truncated_slice_are_counted(tmp_path, good):
    path = tmp_path / "in" / "good" / "00.dcm"
    path.write_bytes(path.read_bytes()[:9000])
    lines = refused(tmp_path, good, count=2)
    assert lines[1].endswith("the file is truncated; the slice has 1 annotations")
    left_out = {"annotations on unreadable slices": 1, "truncated files": 1}
    assert skipped(tmp_path, good) == (left_out, ["3"])


@pytest.mark.parametrize("length", [0, 100, 400, 700])
@pytest.mark.parametrize("deflated", [False, True])
def test_a_file_with_a_truncated_header(tmp_path, good, length, deflated):
    path = tmp_path / "in" / "good" / "01.dcm"
    if deflated:
        save(dcmread(path), path, DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:length])
    lines = refused(tmp_path, good, count=2)
    assert lines[0].startswith("error: good/01.dcm: ")
    assert (
        lines[1] == "error: series of good/00.dcm (4 files): slices missing between the others: 1"
    )
    left_out, slices = skipped(tmp_path, good)
    assert (sum(left_out.values()), slices) == (2, ["0", "2"])


def test_slice_numbers_are_not_trusted_where_a_file_is_unreadable(tmp_path, good):
    path = tmp_path / "in" / "good" / "00.dcm"  # the first slice: its absence leaves no gap
    path.write_bytes(path.read_bytes()[:100])
    given = table(tmp_path / "b.csv", "slice,x,y,label", "2,40,40,NOR")
    lines = refused(tmp_path, given, count=2)
    assert lines[1].endswith(
        "slice numbers are uncertain where slices are missing. Use instance, z or file"
    )


def test_damaged_compressed_pixels(tmp_path, good):
    path = tmp_path / "in" / "good" / "03.dcm"
    data = dcmread(path)
    save(data, path, JPEG2000Lossless)
    data = dcmread(path)
    data.PixelData = data.PixelData[:20] + bytes(len(data.PixelData) - 28) + data.PixelData[-8:]
    data.save_as(path)
    [line] = refused(tmp_path, good)
    assert line.startswith("error: good/03.dcm: the pixels cannot be decoded (")
    assert skipped(tmp_path, good) == ({"annotations on unreadable slices": 1}, ["0"])


def test_missing_slices(tmp_path, good):
    for name in ("01.dcm", "02.dcm"):
        (tmp_path / "in" / "good" / name).unlink()
    text = "error: series of good/00.dcm (3 files): slices missing between the others: 2"
    assert refused(tmp_path, good) == [text]
    left_out, slices = skipped(tmp_path, good)
    assert left_out == {"missing slices": 2}
    assert slices == ["0", "1"]


BAD_SERIES = {
    "orientation": ({"ImageOrientationPatient": [1, 0, 0, 0, 0.9, 0.43589]}, "orientations"),
    "flip": ({"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}, "sizes or pixel spacings"),
    "spacing": ({"spacing": ("0.8", "0.8")}, "sizes or pixel spacings"),
}


@pytest.mark.parametrize("name", BAD_SERIES)
def test_a_series_of_inconsistent_slices(tmp_path, good, name):
    header, text = BAD_SERIES[name]
    other = series(tmp_path / "in" / "x", uid=f"{ROOT}.2")
    save(dataset(phantom()[0], index=4, **{"uid": f"{ROOT}.2", **header}), other / "04.dcm")
    [line] = refused(tmp_path, good)
    assert line.startswith("error: series of x/00.dcm (5 files): ")
    assert text in line
    left_out, slices = skipped(tmp_path, good)
    assert (list(left_out.values()), slices) == ([1], ["0", "3"])


def test_a_series_that_is_not_axial(tmp_path, good):
    series(tmp_path / "in" / "x", uid=f"{ROOT}.2", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    lines = refused(tmp_path, good)
    assert lines == ["error: series of x/00.dcm (5 files): its slices are not axial"]
    assert skipped(tmp_path, good)[0] == {"series that are not axial": 1}


def test_two_slices_at_one_position(tmp_path, good):
    save(dataset(phantom()[0] + 1024, index=2), tmp_path / "in" / "copy" / "02.dcm")
    assert refused(tmp_path, good) == ["error: good/02.dcm: the same slice as copy/02.dcm"]
    assert skipped(tmp_path, good) == ({"slices at one place": 1}, ["0", "3"])


def test_non_square_pixels(tmp_path, good):
    series(tmp_path / "in" / "x", uid=f"{ROOT}.2", spacing=("0.7", "0.8"))
    lines = refused(tmp_path, good)
    text = "pixels of 0.7 x 0.8 mm are not square. Give --spacing or --field"
    assert lines == [f"error: series of x/00.dcm (5 files): {text}"]
    assert skipped(tmp_path, good) == ({"series of non-square pixels": 1}, ["0", "3"])
    given = ["--annotations", good, "--out", tmp_path / "square", "--spacing", "0.75"]
    assert run(tmp_path / "in", *given)[0] == 0


def test_two_series_with_one_number(tmp_path, good):
    series(tmp_path / "in" / "x", uid=f"{ROOT}.2")
    given = table(
        tmp_path / "b.csv", "series,instance,x,y,label", "1,100,40,40,NOR", "good,97,40,40,GGO"
    )
    [line] = refused(tmp_path, given)
    assert line.endswith(
        "b.csv line 2: series 1 matches 2 series, for example series of good/00.dcm (5 files) and "
        "series of x/00.dcm (5 files). Name one by file, folder, UID or patient"
    )
    assert skipped(tmp_path, given) == ({"annotations of several series": 1}, ["3"])


BAD_ROWS = {
    "100,96,40,,,NOR": "annotations outside the image",
    "100,-1,40,,,NOR": "annotations outside the image",
    "100,40,75,,,NOR": "annotations outside the image",  # its patch extends beyond the border
    "100,60,40,40,20,NOR": "annotations outside the image",
    "7,40,40,,,NOR": "annotations of no slice",
    "100,40,forty,,,NOR": "annotations with a bad number",
    "100,40,40,0,10,NOR": "annotations with a bad number",
    "100,40,40,10,,NOR": "annotations with a bad number",
    "100,40,nan,,,NOR": "annotations with a bad number",
    ",40,40,,,NOR": "annotations of no slice",
    "100,40,40,,,": "annotations without a known label",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_bad_row(tmp_path, good, row):
    given = table(tmp_path / "b.csv", "instance,x,y,width,height,label", "97,40,40,,,GGO", row)
    [line] = refused(tmp_path, given)
    assert line.startswith(f"error: {tmp_path}/b.csv line 3: ")
    assert skipped(tmp_path, given) == ({BAD_ROWS[row]: 1}, ["3"])


def test_a_box_may_cover_the_whole_slice(tmp_path, good):
    given = table(tmp_path / "b.csv", "slice,x,y,width,height,label", "0,0,0,96,80,NOR")
    assert skipped(tmp_path, given) == ({}, ["0"] * 6)  # the whole slice is valid


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'label'; there are none"),
        ("x,y,label\n", "no rows"),
        ("x,label\n1,NOR\n", "no columns x and y, and no column points"),
        ("x,y,width,label\n1,1,1,NOR\n", "width without height"),
        ("x,y,slice,z,label\n1,1,1,1,NOR\n", "columns slice and z both name the slice"),
        ("x,y,label\n1,1\n", "line 2: 2 cells, the header has 3"),
        ("x,y,label\n\xff", "not in UTF-8"),
        (
            "slice,x,y,label\n0,40,40,NaN",
            "line 2: the label 'NaN' stands for a missing value",
        ),
        ("slice,x,y,label\n0,40,40,GGO\n0,20,20,ggo", "'ggo' and 'GGO' look like two spellings"),
    ],
)
def test_a_file_that_is_not_a_table_of_annotations(tmp_path, good, text, message):
    (tmp_path / "b.csv").write_bytes(text.encode("latin-1"))
    given = ["--annotations", tmp_path / "b.csv", "--out", tmp_path / "out"]
    code, _, [line] = run(tmp_path / "in", *given)
    assert code == 2
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "40"], "--window 40: must be LEVEL/WIDTH, two numbers"),
        (["--window", "40/0"], "--window 40/0: the width must be greater than 0"),
        (["--spacing", "1", "--field", "20"], "--spacing and --field: both set the pixel size"),
        (["--spacing", "0"], "--spacing 0: must be a length in mm"),
        (["--coverage", "1.2"], "--coverage 1.2: must lie between 0 and 1"),
        (["--overlap", "1"], "--overlap 1: must be at least 0 and less than 1"),
        (["--png-spacing", "1"], "--png-spacing: --png-rescale is missing"),
        (["--png-rescale", "0/1"], "--png-rescale 0/1: the slope must not be 0"),
        (["--size", "90"], "1 problems in the input"),
    ],
)
def test_a_bad_option(tmp_path, good, options, message):
    given = ["--annotations", good, "--out", tmp_path / "out", *options]
    code, _, lines = run(tmp_path / "in", *given)
    assert code == 2
    assert message.replace("1 problems", "2 problems") in lines[-1]
    assert not (tmp_path / "out").exists()


def test_nothing_to_read(tmp_path, good):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("none")
    given = ["--annotations", good, "--check"]
    assert "holds no DICOM, NIfTI, MetaImage, NRRD or PNG" in run(tmp_path / "empty", *given)[2][0]
    assert "no such file or folder" in run(tmp_path / "nowhere", *given)[2][0]
    given = ["--annotations", tmp_path / "no.csv", "--check"]
    assert "no such file or folder of annotations" in run(tmp_path / "in", *given)[2][0]
    given = ["--annotations", tmp_path / "empty", "--check"]
    assert "no masks in PNG, NIfTI, MetaImage" in run(tmp_path / "in", *given)[2][0]


def test_bad_nifti_and_png(tmp_path, good):
    whole = tmp_path / "in" / "a.nii.gz"
    nib.save(nib.Nifti1Image(phantom().astype(np.int16), np.diag([-0.7, -0.7, 2.5, 1])), whole)
    whole.write_bytes(whole.read_bytes()[:-2000])
    image = nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4))
    nib.save(image, tmp_path / "in" / "b.nii")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "in" / "c.png")
    (tmp_path / "in" / "c.png").write_bytes((tmp_path / "in" / "c.png").read_bytes()[:60])
    given = ["--annotations", good, "--check"]
    assert (
        "a PNG does not contain the scale of its Hounsfield units"
        in run(tmp_path / "in", *given)[2][-1]
    )
    lines = refused(tmp_path, good, "--png-rescale", "1/-1024", count=3)
    assert lines[0].startswith("error: a.nii.gz: not readable as NIfTI (")
    assert "4 dimensions of sizes (4, 4, 4, 3), not a volume" in lines[1]
    assert lines[2].startswith("error: c.png: not readable as PNG (")
    found = skipped(tmp_path, good, "--png-rescale", "1/-1024")
    assert found == ({"unreadable files": 3}, ["0", "3"])


def test_a_png_with_a_text_that_is_too_long(tmp_path, good):
    """Pillow raises a ValueError for it."""
    text = PngInfo()
    text.add_text("comment", "x" * 2_000_000, zip=True)
    image = Image.fromarray(np.zeros((40, 40), np.uint16))
    image.save(tmp_path / "in" / "c.png", pnginfo=text)
    [line] = refused(tmp_path, good, "--png-rescale", "1/-1024")
    assert line.startswith("error: c.png: not readable as PNG (Decompressed data too large")


def test_previews_are_left_out_beside_dicom_only(tmp_path, good):
    for folder in (tmp_path / "in" / "good", tmp_path / "alone"):
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "preview.png")
    assert skipped(tmp_path, good) == ({}, ["0", "3"])
    assert json.loads(contents(tmp_path / "out")["summary.json"])["other_files"] == 1
    given = ["--annotations", good, "--check", "--png-rescale", "1/-1024"]
    lines = run(tmp_path / "alone", *given)[2]
    assert lines[0] == "error: preview.png: an image of mode RGB, not 16-bit grey"


def test_png_without_spacing_cannot_be_resampled(tmp_path, good):
    folder = tmp_path / "in" / "png"
    folder.mkdir()
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(folder / "c.png")
    [line] = refused(tmp_path, good, "--png-rescale", "1/-1024", "--field", "20")
    assert "the pixel spacing is unknown. Give --png-spacing" in line


def test_other_files_are_counted(tmp_path, good):
    (tmp_path / "in" / "LICENSE").write_text("yours")
    left_out, slices = skipped(tmp_path, good)
    assert (left_out, slices) == ({}, ["0", "3"])
    assert json.loads(contents(tmp_path / "out")["summary.json"])["other_files"] == 1
