"""The same slices in every transfer syntax and encoding give the same data set, byte for byte."""

import base64

import nibabel as nib
import numpy as np
import pytest
from ct_series import (
    HIGH_THROUGHPUT,
    PLAIN,
    contents,
    dataset,
    phantom,
    rows,
    run,
    save,
    series,
    table,
)
from PIL import Image
from pydicom import Dataset as Item
from pydicom import Sequence
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from stagetransfer.ct.roi_patches import PatchSettings, apply_window

SYNTAXES = [
    *PLAIN,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
]
SIGNED = {"PixelRepresentation": 1, "RescaleIntercept": "0"}
SIGNED_12 = {**SIGNED, "BitsStored": 12}
ENCODINGS = {
    "unsigned": {},
    "signed": SIGNED,
    "12 of 16 bits": {"BitsStored": 12},
    "signed, 12 of 16 bits": SIGNED_12,
    "half steps": {"RescaleSlope": "0.5"},
    "fractions": {"RescaleSlope": "0.1", "RescaleIntercept": "-1000.0"},
    "MONOCHROME1": {"PhotometricInterpretation": "MONOCHROME1"},
    "MONOCHROME1, falling": {
        "PhotometricInterpretation": "MONOCHROME1",
        "RescaleSlope": "-1",
        "RescaleIntercept": "1024",
    },
}
SPACINGS = {"plain": ("0.7", "0.7"), "odd": ("0.6835938", "0.6835938"), "oblong": ("0.61", "0.83")}


def annotations(folder):
    return table(
        folder / "rois.csv",
        "slice,x,y,width,height,label",
        "0,40,40,,,NOR",
        "2,10,5,70,40,GGO",
        "4,50.4,30.6,,,RET",
    )


def extracted(tmp_path, name, *options, **header):
    out = tmp_path / name
    given = annotations(tmp_path)
    code, _, lines = run(
        series(tmp_path / f"in-{name}", **header), "--annotations", given, "--out", out, *options
    )
    assert (code, lines) == (0, [])
    return contents(out)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_syntax_changes_nothing(tmp_path, spacing):
    options = ["--field", "18"], {"spacing": SPACINGS[spacing]}
    expected = extracted(tmp_path, "reference", *options[0], **options[1])
    assert len(expected) >= 3 + 4  # three tables; at least one patch per class, several in the box
    for syntax in SYNTAXES if spacing == "plain" else SYNTAXES[5:8]:
        for name, encoding in (("unsigned", {}), ("signed", SIGNED), ("signed 12", SIGNED_12)):
            found = extracted(
                tmp_path, f"{syntax}{name}", *options[0], syntax=syntax, **options[1], **encoding
            )
            assert found == expected, (syntax.name, name)


@pytest.mark.parametrize(
    ("spacing", "options"),
    [
        ("plain", []),
        ("odd", []),
        ("plain", ["--spacing", "0.75"]),
        ("odd", ["--spacing", "0.75"]),
        ("oblong", ["--spacing", "0.75"]),
    ],
)
def test_the_encoding_changes_nothing(tmp_path, spacing, options):
    expected = extracted(tmp_path, "reference", *options, spacing=SPACINGS[spacing])
    for name, encoding in ENCODINGS.items():
        found = extracted(tmp_path, name, *options, spacing=SPACINGS[spacing], **encoding)
        assert found == expected, name


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
def test_high_throughput_jpeg_2000(tmp_path, syntax):
    y, x = np.mgrid[:32, :32]
    data = dataset(20 * x + 9 * y)
    save(data, tmp_path / "plain" / "a.dcm")
    data.PixelData = encapsulate([base64.b64decode(HIGH_THROUGHPUT)])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(tmp_path / "coded.dcm", enforce_file_format=True)
    given = table(tmp_path / "a.csv", "x,y,label", "16,16,NOR")
    for folder in ("plain", "coded.dcm"):
        out = tmp_path / f"out-{folder}"
        assert run(tmp_path / folder, "--annotations", given, "--out", out)[0] == 0
    assert contents(tmp_path / "out-plain") == contents(tmp_path / "out-coded.dcm")


def test_grey_values_are_the_window_of_the_hounsfield_units(tmp_path):
    hu = phantom()
    series(tmp_path / "in", hu)
    given = table(tmp_path / "a.csv", "slice,x,y,label", "1,40,30,NOR", "3,50,40,NOR")
    run(tmp_path / "in", "--annotations", given, "--out", tmp_path / "out", "--window", "40/400")
    for row, (k, y, x) in zip(rows(tmp_path / "out"), [(1, 30, 40), (3, 40, 50)], strict=True):
        patch = hu[k, y - 16 : y + 16, x - 16 : x + 16]
        expected = np.floor(np.clip((patch + 160) / 400, 0, 1) * 255 + 0.5)
        assert (np.asarray(Image.open(tmp_path / "out" / row["file"])) == expected).all()
        # The centre of 32 pixels lies between two of them.
        assert [row[key] for key in ("slice", "x", "y", "spacing")] == [
            str(k),
            f"{x - 0.5:.2f}",
            f"{y - 0.5:.2f}",
            "0.7",
        ]


def test_the_window_spans_the_grey_values():
    hu = np.array([-5000, -1350, -600, 150, 5000.0])
    assert apply_window(hu, PatchSettings()).tolist() == [0, 0, 128, 255, 255]


def test_bits_above_the_stored_ones_are_ignored(tmp_path):
    # Old scanners store overlays there; the sign is in the highest stored bit.
    expected = extracted(tmp_path, "reference")
    for name, header in (("junk", {}), ("signed junk", SIGNED)):
        folder = tmp_path / f"in-{name}"
        offset = 0 if header else 1024
        for index, plane in enumerate(phantom() + offset):
            junk = (plane & 0xFFF) | (0x5000 if index % 2 else 0xA000)
            data = dataset(junk.astype("<u2").view("<i2"), index=index, BitsStored=12, **header)
            save(data, folder / f"{index}.dcm")
        given = annotations(tmp_path)
        run(folder, "--annotations", given, "--out", tmp_path / name)
        assert contents(tmp_path / name) == expected


def test_a_modality_lut_is_applied(tmp_path):
    hu = phantom() + 1100  # a table of unsigned entries cannot hold negative values
    expected = extracted(tmp_path, "reference", "--window", "1000/2000", hu=hu)
    folder = tmp_path / "in"
    for index, plane in enumerate(hu):
        data = dataset(4000 - plane, index=index, RescaleSlope=None, RescaleIntercept=None)
        item = Item()
        item.LUTDescriptor = [4001, 0, 16]
        item.LUTData = list(range(4000, -1, -1))
        item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
        data.ModalityLUTSequence = Sequence([item])
        save(data, folder / f"{index}.dcm")
    run(
        folder,
        "--annotations",
        annotations(tmp_path),
        "--out",
        tmp_path / "out",
        "--window",
        "1000/2000",
    )
    assert contents(tmp_path / "out") == expected


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL", "AIR"])
def test_nifti_in_any_orientation_gives_the_patches_of_dicom(tmp_path, axes):
    dicom = extracted(tmp_path, "reference", spacing=("0.7", "0.7"))
    affine = np.diag([-0.7, -0.7, 2.5, 1])  # x to the left, y to the back, in NIfTI's axes
    image = nib.Nifti1Image(phantom().transpose(2, 1, 0).astype(np.int16), affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(axes)
    )
    (tmp_path / "nifti").mkdir()
    nib.save(image.as_reoriented(turn), tmp_path / "nifti" / "a.nii.gz")
    out = tmp_path / "out"
    code, _, lines = run(tmp_path / "nifti", "--annotations", annotations(tmp_path), "--out", out)
    assert (code, lines) == (0, [])
    assert images(contents(out)) == images(dicom)


def test_scaled_nifti(tmp_path):
    hu = phantom().transpose(2, 1, 0)
    image = nib.Nifti1Image(hu.astype(np.int16), np.diag([-0.7, -0.7, 2.5, 1]))
    nib.save(image, tmp_path / "a.nii")
    image = nib.Nifti1Image((hu + 1024).astype(np.int16), image.affine)
    image.header.set_slope_inter(1, -1024)
    nib.save(image, tmp_path / "b.nii")
    for name in "ab":
        given = ["--annotations", annotations(tmp_path), "--out", tmp_path / name]
        run(tmp_path / f"{name}.nii", *given)
    found = images(contents(tmp_path / "a"))
    assert len(found) == 4
    assert found == images(contents(tmp_path / "b"))


def test_16_bit_png_gives_the_patches_of_dicom(tmp_path):
    dicom = extracted(tmp_path, "reference", "--field", "18")
    (tmp_path / "png" / "P7").mkdir(parents=True)
    for index, plane in enumerate(phantom()):
        image = Image.fromarray((plane + 32768).astype(np.uint16))
        image.save(tmp_path / "png" / "P7" / f"slice{index + 7}.png")  # 7, 8, ..., 10, 11
    given = ["--annotations", annotations(tmp_path), "--field", "18"]
    scale = ["--png-rescale", "1/-32768", "--png-spacing", "0.7"]
    code, _, lines = run(tmp_path / "png", *given, *scale, "--out", tmp_path / "out")
    assert (code, lines) == (0, [])
    assert images(contents(tmp_path / "out")) == images(dicom)


def test_a_png_whose_name_has_a_digit_that_is_no_number(tmp_path):
    (tmp_path / "png").mkdir()
    Image.fromarray(np.full((40, 40), 1000, np.uint16)).save(tmp_path / "png" / "cm².png")
    given = table(tmp_path / "a.csv", "x,y,label", "20,20,NOR")
    arguments = ["--annotations", given, "--png-rescale", "1/-1024", "--out", tmp_path / "out"]
    code, _, lines = run(tmp_path / "png", *arguments)
    assert (code, lines) == (0, [])


def images(files):
    return [data for name, data in files.items() if name.endswith(".png")]


def test_an_old_file_without_preamble_is_read(tmp_path):
    expected = extracted(tmp_path, "reference")
    for index, plane in enumerate(phantom() + 1024):
        path = tmp_path / "in" / f"{index:02d}.dcm"
        save(dataset(plane, index=index), path, ExplicitVRLittleEndian)
        path.write_bytes(path.read_bytes()[132:])
    run(tmp_path / "in", "--annotations", annotations(tmp_path), "--out", tmp_path / "out")
    assert contents(tmp_path / "out") == expected
