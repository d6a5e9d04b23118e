"""The data set as a whole: privacy, counts, duplicates, atomic writing, and reading it again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ct_series import ROOT, contents, dataset, phantom, rows, run, save, series, table
from PIL import Image
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.uid import ExplicitVRLittleEndian

from stagetransfer import layouts
from stagetransfer.ct import patch_dataset
from stagetransfer.ct.input_problems import Problems
from stagetransfer.ct.patch_extraction import extract_patches
from stagetransfer.ct.pseudonyms import pseudonym, read_salt
from stagetransfer.ct.roi_patches import PatchSettings
from stagetransfer.data import StageSettings, TargetDataModule
from stagetransfer.errors import UserError
from stagetransfer.inference.prediction_input import find_input

HEADER = "patient,instance,x,y,label"


@pytest.fixture
def study(tmp_path):
    """Write series of four patients, and annotate 20 patches of two classes."""
    lines = []
    for number, patient in enumerate("ABCD"):
        hu = phantom(seed=number)
        series(tmp_path / "in" / patient, hu, patient=patient, uid=f"{ROOT}.{number + 1}")
        for instance in range(96, 101):
            lines.append(f"{patient},{instance},40,40,{'GGO' if instance % 2 else 'NOR'}")
    return table(tmp_path / "a.csv", HEADER, *lines)


def extract(tmp_path, study, *options, out="out"):
    code, shown, lines = run(
        tmp_path / "in", "--annotations", study, "--out", tmp_path / out, *options
    )
    assert (code, lines) == (0, [])
    return shown


def test_counts_by_class_and_patient(tmp_path, study):
    before = set(tmp_path.rglob("*"))
    code, shown, lines = run(tmp_path / "in", "--annotations", study, "--check")
    assert (code, lines) == (0, [])
    assert set(tmp_path.rglob("*")) == before
    assert [line.split() for line in shown.splitlines()] == [
        ["GGO", "NOR", "total"],
        ["images", "8", "12", "20"],
        ["patients", "4", "4", "4"],
        *(["patient", f"000{number}", "2", "3", "5"] for number in (1, 2, 3, 4)),
    ]
    shown = extract(tmp_path, study)
    assert [line.split() for line in shown.splitlines()[:3]] == [
        ["GGO", "NOR", "total"],
        ["images", "8", "12", "20"],
        ["patients", "4", "4", "4"],
    ]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["classes"]["GGO"] == {"images": 8, "patients": 4}
    assert list(summary["images_by_patient"].values()) == [{"GGO": 2, "NOR": 3}] * 4
    assert set(summary["images_by_patient"]) == {row["patient"] for row in rows(tmp_path / "out")}


def test_the_layout_csv_and_the_data_module_read_it(tmp_path, study):
    extract(tmp_path, study)
    samples = layouts.read("csv", tmp_path / "out")
    assert samples.classes == ("GGO", "NOR")
    assert len(samples.ids) == 20
    assert len(set(samples.groups)) == 4
    assert samples.splits is None
    stage = StageSettings("target", input_size=67, batch_size=4)
    module = TargetDataModule(stage, layout="csv", root=tmp_path / "out").read()
    counts = [module.count(split) for split in ("train", "validation", "test")]
    assert sum(counts) == 20
    assert all(count % 5 == 0 and count for count in counts)  # whole patients


def test_neighbouring_slices_are_channels(tmp_path, study):
    extract(tmp_path, study, out="grey")
    extract(tmp_path, study, "--neighbours", "1", out="colour")
    grey, colour = (rows(tmp_path / name) for name in ("grey", "colour"))
    keys = ("label", "slice", "x", "y")
    assert [[row[key] for key in keys] for row in grey] == [
        [row[key] for key in keys] for row in colour
    ]
    for patient in {row["patient"] for row in grey}:
        pairs = [(a, b) for a, b in zip(grey, colour, strict=True) if a["patient"] == patient]
        pairs.sort(key=lambda pair: int(pair[0]["slice"]))
        one = [np.array(Image.open(tmp_path / "grey" / a["file"])) for a, _ in pairs]
        three = [np.array(Image.open(tmp_path / "colour" / b["file"])) for _, b in pairs]
        for i, image in enumerate(three):
            assert image.shape == (32, 32, 3)
            before, after = one[max(i - 1, 0)], one[min(i + 1, len(one) - 1)]
            # The annotations are on successive slices of one place, here of the whole series.
            assert np.array_equal(image, np.stack([before, one[i], after], axis=-1))
    cut = json.loads((tmp_path / "colour" / "summary.json").read_text())["cut"]
    assert cut["neighbours"] == 1
    stage = StageSettings("target", input_size=67)
    data = TargetDataModule(stage, layout="csv", root=tmp_path / "colour").read()
    assert data.inputs("train", [0]).shape == (1, 3, 67, 67)
    with pytest.raises(UserError, match="patches of three slices"):
        find_input(tmp_path / "in", PatchSettings(neighbours=1), Problems())


def test_splits_of_the_annotations_are_copied(tmp_path, study):
    text = study.read_text().splitlines()
    names = {"A": "train", "B": "train", "C": "validation", "D": "test"}
    lines = [f"{line},{names[line[0]]}" for line in text[1:]]
    given = table(tmp_path / "b.csv", text[0] + ",split", *lines)
    extract(tmp_path, given)
    samples = layouts.read("csv", tmp_path / "out")
    assert sorted(samples.splits) == ["test"] * 5 + ["train"] * 10 + ["validation"] * 5
    lines[0] = lines[0].replace("train", "test")
    given = table(tmp_path / "b.csv", text[0] + ",split", *lines)
    code, _, lines = run(tmp_path / "in", "--annotations", given, "--out", tmp_path / "no")
    assert code == 2
    assert lines == [
        "error: column split: 1 patients have rows in several splits, or rows with and without "
        "a split. Give each patient one split"
    ]


def secret(vr, number):
    """Return a recognisable value that the VR allows, different for each element."""
    return {
        "DA": f"1977{number % 12 + 1:02d}{number % 28 + 1:02d}",
        "TM": f"0317{number % 60:02d}",
        "DT": f"1977{number % 12 + 1:02d}{number % 28 + 1:02d}0317",
        "UI": f"1.2.77316.{number}",
        "AS": "077Y",
        "UR": f"https://SECRET{number}",
    }.get(vr, f"SECRET{number}")


MARKS = (b"secret", b"1977", b"77316", b"0317", b"077y", b"doe", b"marked")
TEXTS = ("LO", "SH", "PN", "LT", "ST", "UT", "DA", "TM", "DT", "UI", "AS", "UC", "UR", "CS")
# Elements that decoding and positions need, and those that are compared with fixed values.
KEPT = {
    *("SOPClassUID", "TransferSyntaxUID", "SpecificCharacterSet", "Modality", "ImageType"),
    *("PhotometricInterpretation", "RescaleType", "BurnedInAnnotation"),
}


def marked(index):
    """Return a slice with a recognisable value in every text element of the DICOM dictionary."""
    data = dataset(phantom()[index] + 1024, index=index, SeriesNumber=77316)
    number = 0
    for keyword, tag in sorted(keyword_dict.items()):
        # Group 2 is the file header, group 4 a directory; repeating groups have no single number.
        if keyword in KEPT or not 0x00080000 <= tag < 0x50000000 or not keyword:
            continue
        vr = dictionary_VR(tag)
        if vr in TEXTS:
            number += 1
            setattr(data, keyword, secret(vr, number))
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.77316.{index}.1"
    data.SeriesInstanceUID, data.PatientID = "1.2.77316.9", "SECRET-DOE"
    data.PatientName = "SECRET^DOE"
    block = data.private_block(0x0099, "SECRET MAKER", create=True)
    block.add_new(0x01, "LO", "SECRET private")
    assert number > 500
    return data


@pytest.mark.parametrize("options", [[], ["--patient", "folder"]])
def test_nothing_of_a_header_or_a_path_reaches_an_output(tmp_path, options):
    folder = tmp_path / "in" / "SECRET_DOE" / "marked 19770101"
    for index in range(3):
        save(marked(index), folder / f"SECRET{index}.dcm", ExplicitVRLittleEndian)
    broken = folder / "SECRET3.dcm"
    save(marked(3), broken)
    broken.write_bytes(broken.read_bytes()[:-5000])
    save(dataset(phantom()[0], Modality="MR"), folder / "SECRETmr.dcm")
    (folder / "SECRET_DOE.txt").write_text("notes")
    given = table(
        tmp_path / "marked.csv",
        "file,x,y,label",
        *(f"SECRET_DOE/marked 19770101/SECRET{i}.dcm,40,{40 + i},NOR" for i in range(3)),
        "SECRET_DOE/marked 19770101/SECRET0.dcm,42,40,GGO",
        "SECRET_DOE/marked 19770101/SECRET0.dcm,42,40,GGO",
        "SECRET_DOE/marked 19770101/SECRET3.dcm,42,40,GGO",
        "SECRET_DOE/marked 19770101/SECRET0.dcm,1000,40,GGO",
    )
    out, salt = tmp_path / "out", tmp_path / "salt"
    salt.write_text("a fixed salt: a pseudonym could contain a mark by chance")
    arguments = ["--annotations", given, "--out", out, "--skip-bad", "--salt", salt, *options]
    code, shown, _ = run(tmp_path / "in", *arguments)
    assert code == 0
    found = contents(out)
    assert len(found) == 4 + 3
    everything = b"\n".join([*found.values(), *(name.encode() for name in found)]).lower()
    shown = shown.replace(str(tmp_path), "").lower().encode()
    for mark in MARKS:
        assert mark not in everything
        assert mark not in shown
    for name in found:
        if name.endswith(".png"):  # pixels and nothing else
            with Image.open(out / name) as image:
                image.load()
                assert (image.info, image.mode, image.size) == ({}, "L", (32, 32))
    # Only the pseudonyms of patient and series depend on the header.
    assert len({row["patient"] for row in rows(out)}) == 1


def test_pseudonyms_need_the_salt(tmp_path, study):
    extract(tmp_path, study)
    assert (tmp_path / "extract.salt").stat().st_mode & 0o077 == 0
    extract(tmp_path, study, out="again")
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    extract(tmp_path, study, "--salt", tmp_path / "other.salt", out="other")
    first = {row["patient"] for row in rows(tmp_path / "out")}
    other = {row["patient"] for row in rows(tmp_path / "other")}
    assert len(first) == len(other) == 4
    assert not first & other
    assert all((tmp_path / "out" / patient).is_dir() for patient in first)
    (tmp_path / "short.salt").write_text("short")
    arguments = [
        "--annotations",
        study,
        "--out",
        tmp_path / "no",
        "--salt",
        tmp_path / "short.salt",
    ]
    assert "a salt of 5 bytes is too short" in run(tmp_path / "in", *arguments)[2][0]
    assert not (tmp_path / "no").exists()


def test_a_pseudonym_is_the_keyed_hash_of_its_identity():
    # printf 'patient\0A' | openssl dgst -sha256 -hmac 0123456789abcdef
    expected = "5317d36dfa8d3a70"
    salt = b"0123456789abcdef"
    assert pseudonym(salt, "patient", "A") == "p" + expected
    series = pseudonym(salt, "series", "A")
    assert (series[0], series[1:] != expected) == ("s", True)


def test_one_salt_for_two_processes(tmp_path):
    code = "import sys; from pathlib import Path; from stagetransfer.ct.pseudonyms import read_salt"
    code += "; print(read_salt(Path(sys.argv[1])).decode())"
    arguments = [sys.executable, "-c", code, str(tmp_path / "salt")]
    both = [subprocess.Popen(arguments, stdout=subprocess.PIPE) for _ in range(2)]
    salts = [one.communicate()[0].strip() for one in both]
    assert salts[0] == salts[1] == read_salt(tmp_path / "salt")
    assert os.listdir(tmp_path) == ["salt"]


def test_duplicates_and_overlaps_are_listed(tmp_path):
    hu = phantom()
    hu[3] = hu[1]
    series(tmp_path / "in", hu)
    given = table(
        tmp_path / "a.csv",
        "slice,x,y,label",
        "1,40,40,NOR",
        "1,40,40,NOR",  # the same patch again
        "1,50,40,GGO",  # overlaps by 22 of 32 columns
        "1,50,50,GGO",  # the same class: no overlap of classes; 22 x 22 pixels of the first
        "3,40,40,GGO",  # another slice, with the pixels of the first
        "4,40,40,RET",
        "4,40,40,NOR",  # two classes at one position
    )
    shown = extract(tmp_path, given)
    assert shown.splitlines()[3:6] == [
        "1 patches given twice, kept once",
        "1 patches with the pixels of another, kept",
        "3 overlaps between classes, kept",
    ]
    place = {row["file"]: (row["slice"], row["x"], row["y"]) for row in rows(tmp_path / "out")}
    assert len(place) == 6
    text = (tmp_path / "out" / "duplicates.csv").read_text().splitlines()[1:]
    found = [line.split(",") for line in text]
    listed = [
        (kind, label, other, float(share), place[one][0], place[two][0])
        for kind, one, label, two, other, share in found
    ]
    assert sorted(listed) == [
        ("classes overlap", "NOR", "GGO", round(22 * 22 / 1024, 4), "1", "1"),
        ("classes overlap", "NOR", "GGO", round(22 / 32, 4), "1", "1"),
        ("classes overlap", "NOR", "RET", 1.0, "4", "4"),
        ("same pixels", "NOR", "GGO", 1.0, "1", "3"),
        ("same place", "NOR", "NOR", 1.0, "1", "1"),
    ]


def test_annotations_without_a_patch_are_reported(tmp_path):
    series(tmp_path / "in")
    given = table(
        tmp_path / "a.csv", "slice,x,y,width,height,label", "0,40,40,,,NOR", "1,40,40,8,8,NOR"
    )
    code, shown, lines = run(tmp_path / "in", "--annotations", given, "--check")
    assert code == 0
    assert lines == [f"no patch: {given} line 3: too small for --size and --coverage"]
    assert "1 annotations without a patch" in shown.splitlines()
    # A nodule smaller than a patch needs --place centre and a small coverage.
    extract(tmp_path, given, "--place", "centre", "--coverage", "0.05")
    found = [(row["x"], row["y"]) for row in rows(tmp_path / "out")]
    assert found == [("39.50", "39.50"), ("43.50", "43.50")]


def test_an_extraction_without_patches_is_an_error(tmp_path):
    series(tmp_path / "in")
    given = table(tmp_path / "a.csv", "slice,x,y,width,height,label", "1,40,40,8,8,NOR")
    code, _, lines = run(tmp_path / "in", "--annotations", given, "--out", tmp_path / "out")
    assert code == 2
    assert lines[-1].startswith("error: --annotations: no patch found")
    assert set(tmp_path.iterdir()) == {tmp_path / "in", given}


def test_the_output_is_complete_or_absent(tmp_path, study, monkeypatch):
    found = extract_patches(tmp_path / "in", study, PatchSettings())
    before = set(tmp_path.iterdir())

    def disk_full(*_):
        assert any(path.name.startswith(".out.") for path in tmp_path.iterdir())
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(patch_dataset, "_write_csv", disk_full)
        with pytest.raises(OSError, match=str(tmp_path / "out")):
            patch_dataset.write_dataset(found, tmp_path / "out", tmp_path / "extract.salt")
    assert set(tmp_path.iterdir()) - before == {tmp_path / "extract.salt"}
    patch_dataset.write_dataset(found, tmp_path / "out", tmp_path / "extract.salt")
    assert len(contents(tmp_path / "out")) == 23


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_an_existing_output_is_refused(tmp_path, study, kind):
    out = tmp_path / "out"
    {"folder": out.mkdir, "file": out.touch, "link": lambda: out.symlink_to("gone")}[kind]()
    code, _, [line] = run(tmp_path / "in", "--annotations", study, "--out", out)
    assert code == 2
    assert f"{out}: " in line
    assert "--out" in line


def test_an_output_within_the_input_is_refused(tmp_path, study):
    arguments = ["--annotations", study, "--out", tmp_path / "in" / "out"]
    code, _, [line] = run(tmp_path / "in", *arguments)
    assert code == 2
    assert "lies within the input" in line


def test_patients_by_folder(tmp_path):
    for number in (1, 2):
        folder = tmp_path / "in" / f"case{number}" / "scan"
        series(folder, patient="ANONYMOUS", uid=f"{ROOT}.{number}")
    given = table(
        tmp_path / "a.csv",
        "series,slice,x,y,label",
        "case1/scan,0,40,40,NOR",
        "case2/scan,0,40,40,GGO",
    )
    for option, count in (("header", 1), ("folder", 2)):
        extract(tmp_path, given, "--patient", option, out=option)
        assert len({row["patient"] for row in rows(tmp_path / option)}) == count


def test_no_training_library_is_loaded(tmp_path, study):
    code = """
import sys
from stagetransfer.cli.app import main
from stagetransfer.ct import patch_dataset
sys.argv = ["stagetransfer", "extract", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code
loaded = {"torch", "pytorch_lightning", "hydra", "tensorboard"} & set(sys.modules)
assert not loaded, loaded
"""
    arguments = [tmp_path / "in", "--annotations", study, "--check"]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


def test_real_dicom_files(tmp_path):
    root = os.environ.get("STAGETRANSFER_SHARED_DATA")
    folder = Path(root) if root else Path(__file__).parents[3] / "shared" / "data"
    folder = folder / "dicom"
    if not folder.is_dir():
        pytest.skip("no real DICOM here; STAGETRANSFER_SHARED_DATA names the folder above dicom")
    lines = [
        f"{path.relative_to(folder).as_posix()},{x},{y},64,64,{label}"
        for path in sorted(folder.rglob("*.dcm"))[::9]
        for x, y, label in ((110, 240, "RIGHT"), (350, 240, "LEFT"))
    ]
    given = table(tmp_path / "a.csv", "file,x,y,width,height,label", *lines)
    arguments = ["--annotations", given, "--field", "18", "--out", tmp_path / "out"]
    code, _, lines = run(folder, *arguments)
    assert (code, lines) == (0, [])
    found = rows(tmp_path / "out")
    assert {row["label"] for row in found} == {"LEFT", "RIGHT"}
    assert {row["spacing"] for row in found} == {"0.5625"}
    assert len({row["patient"] for row in found}) == 2
    patches = np.stack([np.asarray(Image.open(tmp_path / "out" / row["file"])) for row in found])
    # Lung and chest wall lie within the window: neither black nor white.
    assert 50 < patches.mean() < 200
    everything = b"".join(contents(tmp_path / "out").values())
    for mark in (b"Lung_Dx", b"A0001", b"01540805"):
        assert mark not in everything
