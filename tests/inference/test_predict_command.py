"""`stagetransfer predict` on a small real run: every kind of input, what it leaves, bad input."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, RLELossless
from typer.testing import CliRunner

from conftest import SMALL
from ct.ct_series import ROOT, dataset, save, series
from stagetransfer.cli.app import app
from stagetransfer.config.validate import validate_config
from stagetransfer.ct.dicom_seg_reader import read_segmentation
from stagetransfer.inference.window_labels import NOTICE
from stagetransfer.pipeline.chain import ChainRunner

SPACING = ("1.5", "1.5")


@pytest.fixture(scope="module")
def trained(compose_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    small = (*SMALL, "recipe.epochs=1", f"paths.outputs={folder}", "+experiment=scratch")
    return ChainRunner(validate_config(compose_config(*small))).run()


def body(depth=1, side=128):
    """(Z, side, side) HU: two lungs of noise in a body; another noise in each slice."""
    y, x = np.indices((side, side)) - side / 2
    hu = np.full((depth, side, side), -1000)
    hu[:, (x / 60) ** 2 + (y / 50) ** 2 < 1] = 40
    lungs = lung()
    noise = np.random.default_rng(0).normal(-820, 60, (depth, lungs.sum()))
    hu[:, lungs] = noise.round().astype(int)
    return hu


def lung(side=128):
    y, x = np.indices((side, side)) - side / 2
    return ((x - 28) ** 2 + y**2 < 25**2) | ((x + 28) ** 2 + y**2 < 25**2)


def run(*words):
    """Exit code, standard output, lines of standard error; as `main` would end."""
    result = CliRunner().invoke(app, ["predict", *map(str, words)])
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        if type(error).__name__ not in ("UserError", "BadInput"):
            raise error
        return 2, result.stdout, [*result.stderr.splitlines(), f"error: {error}"]
    return result.exit_code, result.stdout, result.stderr.splitlines()


def good(*words):
    code, shown, lines = run(*words)
    assert code == 0, lines
    assert NOTICE in shown
    return shown, lines


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return series(tmp_path_factory.mktemp("scans") / "a", body(3), spacing=SPACING)


@pytest.fixture(scope="module")
def opinion(trained, scans, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "opinion"
    good(trained, scans, "--out", out, "--stride", 4, "--seg", "--reason", "36,64", "--slice", 1,
         "--slice", 2)  # fmt: skip
    return out


def test_what_it_leaves(opinion):
    assert {path.name for path in opinion.iterdir()} == {
        "shares.csv", "windows.csv", "summary.json", "01-0001.png", "01-0002.png", "01.seg.dcm",
        *(path.name for path in opinion.glob("reason-01-000[12]-*.png")),
    }  # fmt: skip
    assert len(list(opinion.glob("reason-*"))) == 2
    for picture in opinion.glob("*.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 200


def test_tables_fit_each_other(opinion):
    windows, rows = (pd.read_csv(opinion / f"{name}.csv") for name in ("windows", "shares"))
    summary = json.loads((opinion / "summary.json").read_text())
    assert summary["notice"] == NOTICE
    assert rows["slice"].tolist() == [1, 2]
    assert rows["windows"].tolist() == windows.groupby("slice").size().tolist()
    assert summary["windows"] == len(windows) > 50
    probabilities = windows.filter(like="p_")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert (probabilities.idxmax(axis=1) == "p_" + windows["class"]).all()
    unlike = windows["distance"] > summary["distance_limit"]
    uncertain = ~unlike & (probabilities.max(axis=1) < 0.5)
    expected = windows["class"].mask(unlike, "unlike the training data")
    assert windows["opinion"].equals(expected.mask(uncertain, "uncertain").rename("opinion"))
    total = rows.iloc[:, 5:].sum(axis=1)
    np.testing.assert_allclose(total, 1, atol=1e-4)
    inside = lung()[windows["y"].round().astype(int), windows["x"].round().astype(int)]
    assert inside.mean() > 0.99


def test_the_run_keeps_its_reference_and_judges_without_its_data(trained, scans, tmp_path):
    copy = tmp_path / "outputs" / "runs" / trained.name
    shutil.copytree(trained, copy)
    assert (trained / "reference.safetensors").is_file()
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("scale: 0.15", "scale: 0.3"))
    good(copy, scans / "00.dcm", "--stride", 8)
    assert (tmp_path / "outputs" / "predict" / "00" / "summary.json").is_file()
    (copy / "reference.safetensors").unlink()
    code, _, lines = run(copy, scans / "00.dcm", "--out", tmp_path / "again")
    assert code == 2
    assert "has changed" in lines[-1]
    (copy / "reference.safetensors").write_bytes(b"damaged")
    code, _, lines = run(copy, scans / "00.dcm", "--out", tmp_path / "again")
    assert code == 2
    assert "remove it" in lines[-1]


def test_validation_predictions_are_those_of_the_run(trained, scans, tmp_path):
    before = pd.read_csv(trained / "validation.csv")
    copy = tmp_path / trained.name
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("validation.csv", "reference*"))
    good(copy, scans / "00.dcm", "--out", tmp_path / "out")
    after = pd.read_csv(copy / "validation.csv")
    assert after.iloc[:, :4].equals(before.iloc[:, :4])
    np.testing.assert_allclose(after.iloc[:, 4:], before.iloc[:, 4:], atol=1e-5)


def test_a_seg_is_read_back_as_the_map(opinion, scans):
    found = read_segmentation(opinion / "01.seg.dcm")
    assert found.series == {f"{ROOT}.1"}
    rows = pd.read_csv(opinion / "shares.csv")
    pixels = rows["lung_pixels"].sum()
    for number, label in found.labels.items():
        count = sum((frame.values == number).sum() for frame in found.frames)
        assert count / pixels == pytest.approx(
            (rows[label] * rows["lung_pixels"]).sum() / pixels, abs=1e-5
        )


def test_nifti_mask_and_truth(trained, tmp_path):
    affine = np.diag([-1.5, -1.5, 2.0, 1])
    nib.save(
        nib.Nifti1Image(body(2).transpose(2, 1, 0).astype(np.int16), affine), tmp_path / "v.nii.gz"
    )
    half = np.zeros((2, 128, 128), np.uint8)
    half[0] = lung()
    half[0, :, 64:] *= 7
    nib.save(nib.Nifti1Image(half.transpose(2, 1, 0), affine), tmp_path / "m.nii.gz")
    (tmp_path / "names.csv").write_text("value,label\n1,CON\n7,NOR\n")
    shown, _ = good(
        trained, tmp_path / "v.nii.gz", "--mask", tmp_path / "m.nii.gz", "--truth",
        tmp_path / "m.nii.gz", "--labels", tmp_path / "names.csv", "--out", tmp_path / "out",
        "--stride", 8,
    )  # fmt: skip
    assert "1 slices without windows" in shown
    rows = pd.read_csv(tmp_path / "out" / "shares.csv")
    assert rows["lung_pixels"].tolist() == [lung().sum(), 0]
    dice = pd.read_csv(tmp_path / "out" / "dice.csv").set_index("class")
    assert dice.loc["CON", "true_share"] == pytest.approx(0.5, abs=0.01)
    assert dice.loc["CON", "outside_mask"] == 0
    assert np.isnan(dice.loc["GGO", "dice"])


def test_it_keeps_freed_memory(trained, tmp_path, monkeypatch):
    calls = []
    target = "stagetransfer.training.machine.keep_freed_memory"
    monkeypatch.setattr(target, lambda: calls.append(True))
    Image.new("L", (32, 32)).save(tmp_path / "patch.png")
    good(trained, tmp_path / "patch.png", "--out", tmp_path / "out")
    assert calls


def test_patches_and_16_bit_slices(trained, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, shape in (("grey.png", (32, 32)), ("colour.jpg", (32, 32, 3))):
        Image.fromarray(random.integers(0, 256, shape).astype(np.uint8)).save(folder / name)
    (folder / "note.txt").write_text("no image")
    good(trained, folder, "--out", tmp_path / "patches")
    table = pd.read_csv(tmp_path / "patches" / "patches.csv")
    assert table["file"].tolist() == ["colour.jpg", "grey.png"]
    assert not (tmp_path / "patches" / "windows.csv").exists()
    Image.fromarray((body()[0] + 1024).astype(np.uint16)).save(folder / "slice.png")
    code, _, lines = run(trained, folder, "--out", tmp_path / "both")
    assert code == 2
    assert "--png-rescale" in lines[-1]
    good(trained, folder, "--png-rescale", "1/-1024", "--out", tmp_path / "both", "--stride", 16)
    left = {path.name for path in (tmp_path / "both").iterdir()}
    assert left >= {"patches.csv", "windows.csv", "01-0000.png", "patch-0001.png"}


def test_a_patch_of_the_test_set_is_judged_as_in_the_test(trained, tmp_path):
    from stagetransfer.pipeline.restore import restore_runs

    one = restore_runs([trained])[0]
    row = int(one.data.rows["test"][0])
    Image.fromarray(one.data.samples.images[row]).save(tmp_path / "p.png")
    good(trained, tmp_path / "p.png", "--out", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "patches.csv").filter(like="p_").to_numpy()[0]
    tested = pd.read_csv(trained / "predictions.csv").filter(like="p_").to_numpy()[0]
    temperature = json.loads((tmp_path / "out" / "summary.json").read_text())["temperature"]
    expected = tested ** (1 / temperature)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-4)


def truncated(folder):
    save(dataset(body()[0] + 1024, spacing=SPACING), folder / "x.dcm")
    content = (folder / "x.dcm").read_bytes()
    (folder / "x.dcm").write_bytes(content[:-5000])


def damaged(folder):
    save(dataset(body()[0] + 1024, spacing=SPACING), folder / "x.dcm", RLELossless)
    content = bytearray((folder / "x.dcm").read_bytes())
    content[-4000:] = bytes(4000)
    (folder / "x.dcm").write_bytes(content)


def gap(folder):
    series(folder, body(5), spacing=SPACING)
    (folder / "02.dcm").unlink()


def orientations(folder):
    series(folder, body(2), spacing=SPACING)
    turned = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    save(dataset(body()[0] + 1024, index=7, spacing=SPACING, **turned), folder / "turned.dcm")


def one_number(folder):
    for name in "bc":
        series(folder / name, body(), spacing=SPACING, uid=f"{ROOT}.{ord(name)}", number=4)


BAD = {
    "truncated files": (truncated, "truncated"),
    "files of another modality": (
        lambda f: save(dataset(body()[0] + 1024, Modality="MR"), f / "x.dcm"), "MR, not CT",
    ),
    "missing slices": (gap, "1 missing between others"),
    "series of mixed orientations": (orientations, "slices of different orientations"),
    "series of non-square pixels": (
        lambda f: series(f, body(), spacing=("1.5", "1.2")), "not square",
    ),
    "series with the number of another": (one_number, "choose one by --series"),
    "unreadable files": (
        lambda f: (f / "x.dcm").write_bytes(b"no dicom at all"), "not readable as DICOM",
    ),
    "pictures larger than a patch": (
        lambda f: Image.new("L", (512, 512)).save(f / "x.png"), "no patch of 32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_has_a_line_and_the_rest_goes_on_where_asked(trained, tmp_path, kind):
    make, said = BAD[kind]
    folder = tmp_path / "in"
    series(folder / "good", body(), spacing=SPACING, uid=f"{ROOT}.77", number=77)
    (folder / "bad").mkdir()
    make(folder / "bad")
    code, _, lines = run(trained, folder, "--out", tmp_path / "out", "--stride", 16)
    assert code == 2
    assert any(said in line for line in lines)
    assert "--skip-bad" in lines[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    shown, lines = good(trained, folder, "--out", tmp_path / "out", "--stride", 16, "--skip-bad")
    assert any(line.startswith("left out: ") and said in line for line in lines)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    count = summary["left_out"][kind]
    assert count == (2 if kind == "series with the number of another" else 1)
    assert f"left out: {count} {kind}" in shown
    assert summary["slices"] == (5 if kind == "missing slices" else 1)


def test_where_all_is_left_out_nothing_is_written(trained, tmp_path):
    (tmp_path / "in").mkdir()
    truncated(tmp_path / "in")
    words = [trained, tmp_path / "in", "--skip-bad", "--out", tmp_path / "out"]
    code, _, lines = run(*words)
    assert code == 2
    assert lines[-1].startswith("error: nothing was read")
    assert {one.name for one in tmp_path.iterdir()} == {"in"}


def test_a_slice_that_shows_its_damage_late_leaves_nothing(trained, tmp_path):
    folder = tmp_path / "in"
    series(folder / "a", body(), JPEG2000Lossless, spacing=SPACING)
    path = folder / "a" / "00.dcm"
    path.write_bytes(path.read_bytes()[:-3000] + bytes(3000))
    series(folder / "b", body(), spacing=SPACING, uid=f"{ROOT}.5", number=5)
    code, _, lines = run(trained, folder, "--out", tmp_path / "out", "--stride", 16)
    if code == 0:
        pytest.skip("this decoder forgives it")
    assert "a/00.dcm" in lines[0]
    assert {one.name for one in tmp_path.iterdir()} == {"in"}
    good(trained, folder, "--out", tmp_path / "out", "--stride", 16, "--skip-bad")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["left_out"]["unreadable slices"] == 1


def test_a_series_is_chosen_by_number_folder_or_uid(trained, tmp_path):
    one_number(tmp_path / "in")
    code, _, lines = run(trained, tmp_path / "in", "--series", 4, "--out", tmp_path / "out")
    assert code == 2
    assert "2 series are called so" in lines[-1]
    for name, word in (("folder", "b"), ("uid", f"{ROOT}.{ord('c')}")):
        out = tmp_path / name
        good(trained, tmp_path / "in", "--series", word, "--out", out, "--stride", 16)
        assert len(pd.read_csv(out / "shares.csv")) == 1
    code, _, lines = run(trained, tmp_path / "in", "--series", "no", "--out", tmp_path / "out")
    assert code == 2
    assert "no such series" in lines[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reason", "5"], "--reason 5: must be X,Y"),
        (["--certain", 2], "--certain 2: must lie between 0 and 1"),
        (["--window", "3/0"], "the width must be above 0"),
        (["--slice", 9], "--slice 9"),
        (["--mask", "nowhere"], "--mask nowhere: no such file"),
        (["--truth", "nowhere"], "--truth nowhere: no such file"),
        (["--device", "cuda:77"], "--device cuda:77: not here"),
        (["--spacing", 1, "--field", 18], "give one"),
        (["--field", 4000], "must be a length"),
    ],
)
def test_bad_options_have_a_line(trained, scans, tmp_path, words, said):
    code, _, lines = run(trained, scans, "--out", tmp_path / "out", *words)
    assert (code, len(lines)) == (2, 1)
    assert said in lines[0]
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists_is_refused(trained, scans, tmp_path):
    code, _, lines = run(trained, scans, "--out", tmp_path)
    assert code == 2
    assert "is there already" in lines[-1]


def test_what_needs_a_dicom_series_says_so(trained, tmp_path):
    affine = np.diag([-1.5, -1.5, 2.0, 1])
    nib.save(
        nib.Nifti1Image(body().transpose(2, 1, 0).astype(np.int16), affine), tmp_path / "v.nii"
    )
    code, _, lines = run(trained, tmp_path / "v.nii", "--seg", "--out", tmp_path / "out")
    assert code == 2
    assert "no DICOM series" in lines[-1]
