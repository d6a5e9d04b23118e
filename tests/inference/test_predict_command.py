"""`stagetransfer predict` on a small trained run: inputs, written files, precision, bad input."""

import json
import shutil
from functools import cache
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from conftest import SMALL
from ct.ct_series import ROOT, dataset, enhanced, save, series
from stagetransfer.cli.app import app
from stagetransfer.cli.predict import _name_of
from stagetransfer.config.validate import validate_config
from stagetransfer.ct import Polygon, Problems, Region, Volume
from stagetransfer.errors import UserError
from stagetransfer.formats.dicom_seg_reader import read_segmentation
from stagetransfer.inference import label_map
from stagetransfer.inference.calibrated_classifier import split_forward
from stagetransfer.inference.label_map import COLUMNS, DISCLAIMER
from stagetransfer.inference.reference_features import open_reference
from stagetransfer.inference.user_masks import truth_by_slice
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.restore import restore_runs
from stagetransfer.statistics.calibration import apply_temperature

SPACING = ("1.5", "1.5")


@pytest.fixture(scope="module")
def train(compose_config, tmp_path_factory):
    """Return a function that trains a run in a precision, once, and returns its folder.

    In bfloat16 it is without Winograd's method, whose rounding depends on the size of the batch.
    """
    outputs = tmp_path_factory.mktemp("outputs")
    options = (*SMALL, "recipe.epochs=1", f"paths.outputs={outputs}", "+experiment=scratch")

    @cache
    def trained(precision):
        exact = f"trainer.winograd={str(precision == '32-true').lower()}"
        config = compose_config(*options, f"trainer.precision={precision}", exact)
        return ChainRunner(validate_config(config)).run()

    return trained


@pytest.fixture(scope="module")
def trained(train):
    return train("32-true")


def body(depth=1, side=128):
    """Return (Z, side, side) HU: a body with two lungs of noise, which differs in each slice."""
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


def run(*arguments):
    """Run the command; return its exit code, standard output and lines of standard error."""
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        if not isinstance(error, UserError):
            raise error
        return 2, result.stdout, [*result.stderr.splitlines(), f"error: {error}"]
    return result.exit_code, result.stdout, result.stderr.splitlines()


def good(*arguments):
    code, shown, lines = run(*arguments)
    assert code == 0, lines
    assert DISCLAIMER in shown
    return shown, lines


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return series(tmp_path_factory.mktemp("scans") / "a", body(3), spacing=SPACING)


@pytest.fixture(scope="module")
def predicted(trained, scans, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "predicted"
    good(trained, scans, "--out", out, "--stride", 4, "--seg", "--reason", "36,64", "--slice", 1,
         "--slice", 2)  # fmt: skip
    return out


def test_written_files(predicted):
    assert {path.name for path in predicted.iterdir()} == {
        "shares.csv", "patients.csv", "windows.csv", "summary.json", "01-0001.png", "01-0002.png",
        "01.seg.dcm", "01.lung.seg.dcm", "01.sr.dcm", "similar.csv",
        *(path.name for path in predicted.glob("reason-01-000[12]-*.png")),
    }  # fmt: skip
    assert len(list(predicted.glob("reason-*"))) == 2
    for file in predicted.glob("*.png"):
        with Image.open(file) as image:
            assert min(image.size) > 200


def test_the_explained_window_contains_its_position(trained, scans, tmp_path):
    good(trained, scans, "--out", tmp_path / "out", "--slice", 0, "--stride", 16,
         "--reason", "45.4,60", "--reason", "92,64")  # fmt: skip
    table = pd.read_csv(tmp_path / "out" / "similar.csv").drop_duplicates(["x", "y"])
    for (x, y), row in zip([(45.4, 60), (92, 64)], table.itertuples(), strict=True):
        assert max(abs(row.x - x), abs(row.y - y)) <= 16


def test_the_tables_are_consistent(predicted):
    windows, rows = (pd.read_csv(predicted / f"{name}.csv") for name in ("windows", "shares"))
    summary = json.loads((predicted / "summary.json").read_text())
    assert summary["notice"] == DISCLAIMER
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
    names = [*probabilities.columns.str[2:], "uncertain", "unlike the training data"]
    np.testing.assert_allclose(rows[names].sum(axis=1), 1, atol=1e-4)
    assert (rows["lung_mm2"] == rows["lung_pixels"] * 1.5**2).all()
    assert rows["not read"].between(0, 0.4).all()
    (patient,) = pd.read_csv(predicted / "patients.csv").to_dict("records")
    assert {*rows, *patient} == {*names, "not read", *COLUMNS}
    assert (patient["patient"], patient["slices"]) == ("A", 2)
    for name, share in summary["shares"].items():
        assert share == pytest.approx(patient[name], abs=1e-5)
    weights = rows["lung_mm2"] * (1 - rows["not read"])
    for name in names:
        assert patient[name] == pytest.approx(np.average(rows[name], weights=weights), abs=1e-5)
    inside = lung()[windows["y"].round().astype(int), windows["x"].round().astype(int)]
    assert inside.mean() > 0.99


def test_similar_cases_are_the_nearest_training_images(trained, predicted):
    table = pd.read_csv(predicted / "similar.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    assert table["slice"].tolist() == [1] * 5 + [2] * 5
    opened = restore_runs([trained])[0]
    train = opened.data.rows["train"]
    names = [opened.data.samples.ids[row] for row in train]
    labels = dict(zip(names, opened.data.samples.labels[train], strict=True))
    for row in table.itertuples():
        assert opened.data.classes[labels[row.image]] == row.label
    with safe_open(trained / "reference.safetensors", framework="pt") as file:
        features = file.get_tensor("features").double().numpy()
        stored = json.loads(file.metadata()["reference"])["ids"]
    # A brute-force search from the pixels of the window, in another precision.
    first = table.iloc[0]
    planes = body(3)[1]
    top, left = (int(first[axis] - 15.5) for axis in "yx")
    grey = np.clip((planes[top : top + 32, left : left + 32] + 1350) / 1500, 0, 1) * 255
    classifier = open_reference(opened)[0].classifier(
        opened, certain=0.5, familiar=0.95, device="cpu"
    )
    window = torch.from_numpy(np.floor(grey + 0.5).astype(np.uint8))[None, None]
    with torch.inference_mode():
        own = split_forward(classifier.network, classifier.inputs(window), "32-true")[0]
    spread = features.std(0) + 1e-6
    distances = np.linalg.norm((features - own.double().numpy()) / spread, axis=1)
    order = np.argsort(distances)[:5]
    assert [stored[i] for i in order] == table["image"][:5].tolist()
    np.testing.assert_allclose(distances[order], table["distance"][:5], rtol=1e-2)


def test_a_run_with_a_stored_reference_predicts_without_its_data(trained, scans, tmp_path):
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
    assert "reference.safetensors: damaged" in lines[-1]


def probabilities_at(run, split, precision):
    """Return (N, C): the run's probabilities of a split, with its network at any precision."""
    opened = restore_runs([run])[0]
    x = opened.data.inputs(split, range(opened.data.count(split)))
    with torch.inference_mode():
        logits = split_forward(opened.network(), x, precision)[1]
    return logits.double().softmax(1).numpy()


def assert_computed_in_the_precision_of_the_run(found, recorded, elsewhere):
    """Probabilities are those recorded, and much closer to them than in the other precision.

    Processors order sums differently, so they differ in rare roundings of bfloat16.
    """
    np.testing.assert_allclose(found, recorded, atol=1e-3)
    assert np.abs(found - recorded).mean() < np.abs(elsewhere - recorded).mean() / 4


OTHER = {"32-true": "bf16-mixed", "bf16-mixed": "32-true"}


@pytest.mark.parametrize("precision", OTHER)
def test_validation_predictions_are_those_of_the_run(train, scans, tmp_path, precision):
    trained = train(precision)
    before = pd.read_csv(trained / "validation.csv")
    copy = tmp_path / trained.name
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("validation.csv", "reference*"))
    good(copy, scans / "00.dcm", "--out", tmp_path / "out")
    after = pd.read_csv(copy / "validation.csv")
    assert after.iloc[:, :4].equals(before.iloc[:, :4])
    found, recorded = (table.iloc[:, 4:].to_numpy() for table in (after, before))
    if precision == "32-true":
        np.testing.assert_allclose(found, recorded, atol=1e-5)
    other = probabilities_at(trained, "validation", OTHER[precision])
    assert_computed_in_the_precision_of_the_run(found, recorded, other)


def test_a_reference_of_another_precision_is_computed_again(train, scans, tmp_path):
    trained, copy = train("bf16-mixed"), tmp_path / "run"
    good(trained, scans / "00.dcm", "--out", tmp_path / "first", "--stride", 16)
    shutil.copytree(trained, copy)
    stored = copy / "reference.safetensors"
    content = stored.read_bytes()
    # Of float32, or as files were before they held the name of their features; with other values.
    with safe_open(stored, framework="pt") as file:
        text = json.loads(file.metadata()["reference"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["logits"] *= 2
    assert text["precision"] == "bf16-mixed"
    without_features = {key: value for key, value in text.items() if key != "features"}
    for number, older in enumerate([text | {"precision": "32-true"}, without_features]):
        save_file(tensors, stored, {"reference": json.dumps(older)})
        good(copy, scans / "00.dcm", "--out", tmp_path / str(number), "--stride", 16)
        assert stored.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1.2.840.113619.2.55/", "1.2.840.113619.2.55"),
        ("scan.v2/", "scan.v2"),
        (".scans/", "scans"),
        ("1.2.3.nii.gz", "1.2.3"),
        ("patch.1.jpg", "patch.1"),
        ("00.DCM", "00"),
        ("...", "input"),
    ],
)
def test_the_default_output_folder_has_the_name_of_the_input(tmp_path, name, expected):
    path = tmp_path / name
    path.mkdir() if name.endswith("/") else path.touch()
    assert _name_of(path) == expected


def test_a_seg_is_read_back_as_the_label_map(predicted, scans):
    rows = pd.read_csv(predicted / "shares.csv")
    rows["lung"] = 1.0
    read = rows["lung_pixels"] * (1 - rows["not read"])
    names = []
    for name in ("01.seg.dcm", "01.lung.seg.dcm"):
        found = read_segmentation(predicted / name)
        assert f"{ROOT}.1" in found.uids
        for number, label in found.labels.items():
            count = sum((frame.values == number).sum() for frame in found.frames)
            of = rows["lung_pixels"] if label in ("not read", "lung") else read
            assert count == pytest.approx((rows[label] * of).sum(), abs=0.1)
            names.append(label)
    assert names[-1] == "lung"
    assert len(names) > 1


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
    assert shown.count("% of the lung\n") == 1
    rows = pd.read_csv(tmp_path / "out" / "shares.csv")
    assert rows["lung_pixels"].tolist() == [lung().sum(), 0]
    dice = pd.read_csv(tmp_path / "out" / "dice.csv").set_index("class")
    assert dice.loc["CON", "true_share"] == pytest.approx(0.5, abs=0.01)
    assert dice.loc["CON", "outside_mask"] == 0
    assert dice.loc["mean", "not_read"] == pytest.approx(rows.loc[0, "not read"], abs=1e-4)
    assert np.isnan(dice.loc["GGO", "dice"])


def test_values_of_a_mask_that_are_lung(trained, scans, tmp_path):
    (tmp_path / "masks").mkdir()
    values = np.where(lung(), 10, 3) + np.indices((128, 128))[1] // 64  # 10 and 11; others 3 and 4
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "masks" / "01.png")
    good(trained, scans, "--mask", tmp_path / "masks", "--mask-values", "10,11", "--slice", 1,
         "--stride", 16, "--out", tmp_path / "out")  # fmt: skip
    rows = pd.read_csv(tmp_path / "out" / "shares.csv")
    assert rows["lung_pixels"].tolist() == [lung().sum()]
    wrong = ["--mask", tmp_path / "masks", "--mask-values", "lung", "--slice", 1]
    code, _, lines = run(trained, scans, *wrong, "--out", tmp_path / "wrong")
    assert code == 2
    assert "--mask-values" in lines[0]
    assert not (tmp_path / "wrong").exists()
    some = ["--mask", tmp_path / "masks", "--mask-values", "10,12", "--slice", 1, "--stride", 32]
    code, _, lines = run(trained, scans, *some, "--out", tmp_path / "some")
    assert (code, len(lines)) == (2, 2)
    assert lines[0].startswith("error: --mask-values: 12 occurs in no mask")
    good(trained, scans, *some, "--skip-bad", "--out", tmp_path / "some")
    left_out = json.loads((tmp_path / "some" / "summary.json").read_text())["left_out"]
    assert left_out == {"values of --mask-values in no mask": 1}


def test_pixels_of_two_true_classes_are_counted_and_left_out():
    left, right, both = (Polygon(np.array([[a, 9.5], [b, 9.5], [b, 19.5], [a, 19.5]]))
                         for a, b in ((9.5, 19.5), (14.5, 24.5), (17.5, 21.5)))  # fmt: skip
    regions = [Region(0, name, shape, "x") for name, shape in (
        ("CON", left), ("GGO", right), ("CON", both), ("CON", left)
    )]  # fmt: skip
    volume, problems = (
        Volume("v", "", "", frozenset(), ("v",), (32, 32), None, None, len),
        Problems(),
    )
    annotations = SimpleNamespace(regions_of=lambda number: regions)
    found = truth_by_slice(annotations, 0, volume, ["CON", "GGO"], problems)
    assert problems.counts == {"pixels of two classes in --truth": 70}
    assert [line.partition(":")[0] for line in problems.lines] == ["v"]
    assert [(found[0] == code).sum() for code in (0, 1)] == [50, 30]


def test_the_process_keeps_freed_memory(trained, tmp_path, monkeypatch):
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
    for name, shape in (("grey.png", (32, 32)), ("colour.webp", (32, 32, 3))):
        Image.fromarray(random.integers(0, 256, shape).astype(np.uint8)).save(folder / name)
    (folder / "note.txt").write_text("no image")
    good(trained, folder, "--out", tmp_path / "patches")
    table = pd.read_csv(tmp_path / "patches" / "patches.csv")
    assert table["file"].tolist() == ["colour.webp", "grey.png"]
    assert not (tmp_path / "patches" / "windows.csv").exists()
    Image.fromarray((body()[0] + 1024).astype(np.uint16)).save(folder / "slice.png")
    code, _, lines = run(trained, folder, "--out", tmp_path / "both")
    assert code == 2
    assert "--png-rescale" in lines[-1]
    good(trained, folder, "--png-rescale", "1/-1024", "--out", tmp_path / "both", "--stride", 16)
    (folder / "slice.png").unlink()
    for word in ("--slice 0", "--stride 8", "--window -600/1500", "--field 18",
                 "--png-rescale 1/-1024", "--reason 1,2"):  # fmt: skip
        code, _, lines = run(trained, folder, *word.split(), "--out", tmp_path / "none")
        assert (code, len(lines)) == (2, 1)
        assert lines[0].startswith(f"error: {word.split()[0]}: ")
    left = {path.name for path in (tmp_path / "both").iterdir()}
    assert left >= {"patches.csv", "windows.csv", "01-0000.png", "patch-0001.png"}


@pytest.mark.parametrize("precision", OTHER)
def test_patches_of_the_test_set_have_the_probabilities_of_the_test(train, tmp_path, precision):
    trained, count = train(precision), 6
    opened = restore_runs([trained])[0]
    (tmp_path / "in").mkdir()
    for number, row in enumerate(opened.data.rows["test"][:count]):
        Image.fromarray(opened.data.samples.images[row]).save(tmp_path / "in" / f"{number}.png")
    good(trained, tmp_path / "in", "--out", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "patches.csv").filter(like="p_").to_numpy()
    temperature = json.loads((tmp_path / "out" / "summary.json").read_text())["temperature"]
    tested = pd.read_csv(trained / "predictions.csv").filter(like="p_").to_numpy()[:count]
    other = probabilities_at(trained, "test", OTHER[precision])[:count]
    expected, elsewhere = (apply_temperature(p, temperature) for p in (tested, other))
    if precision == "32-true":
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert_computed_in_the_precision_of_the_run(found, expected, elsewhere)


def test_another_precision_is_named(trained, scans, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("reference*"))
    text = (copy / "config.yaml").read_text()
    assert "precision: 32-true" in text
    (copy / "config.yaml").write_text(text.replace("precision: 32-true", "precision: 64-true"))
    code, _, lines = run(copy, scans / "00.dcm", "--out", tmp_path / "out")
    assert code == 2
    assert "trainer.precision=64-true" in lines[-1]


def truncated(folder, **header):
    save(dataset(body()[0] + 1024, spacing=SPACING, **header), folder / "x.dcm")
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
    "missing slices": (gap, "slices missing between the others: 1"),
    "series of mixed orientations": (orientations, "slices of different orientations"),
    "series of non-square pixels": (
        lambda f: series(f, body(), spacing=("1.5", "1.2")), "not square",
    ),
    "series with the number of another": (one_number, "Choose one with --series"),
    "unreadable files": (
        lambda f: (f / "x.dcm").write_bytes(b"no dicom at all"), "not readable as DICOM",
    ),
    "series without a plausible lung": (
        lambda f: series(f, np.full((2, 64, 64), 40), spacing=SPACING), "Give the lungs by --mask",
    ),
    "pictures larger than a patch": (
        lambda f: Image.new("L", (512, 512)).save(f / "x.png"), "not a patch of 32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_has_a_line_and_skip_bad_continues(trained, tmp_path, kind):
    make, message = BAD[kind]
    folder = tmp_path / "in"
    series(folder / "good", body(), spacing=SPACING, uid=f"{ROOT}.77", number=77)
    (folder / "bad").mkdir()
    make(folder / "bad")
    code, _, lines = run(trained, folder, "--out", tmp_path / "out", "--stride", 16)
    assert code == 2
    assert any(message in line for line in lines)
    assert "--skip-bad" in lines[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    shown, lines = good(trained, folder, "--out", tmp_path / "out", "--stride", 16, "--skip-bad")
    assert any(line.startswith("left out: ") and message in line for line in lines)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    count = summary["left_out"][kind]
    assert count == (2 if kind == "series with the number of another" else 1)
    assert f"left out: {count} {kind}" in shown
    assert summary["slices"] == (5 if kind == "missing slices" else 1)


def test_nothing_is_written_if_everything_is_left_out(trained, tmp_path):
    (tmp_path / "in").mkdir()
    truncated(tmp_path / "in")
    arguments = [trained, tmp_path / "in", "--skip-bad", "--out", tmp_path / "out"]
    code, _, lines = run(*arguments)
    assert code == 2
    assert lines[-1].startswith(f"error: {tmp_path / 'in'}: nothing was read")
    assert {one.name for one in tmp_path.iterdir()} == {"in"}


def test_a_series_without_a_readable_slice_has_no_seg(trained, scans, tmp_path):
    folder = shutil.copytree(scans, tmp_path / "in" / "a").parent
    (folder / "b").mkdir()
    truncated(folder / "b", uid=f"{ROOT}.5", number=5)
    good(trained, folder, "--seg", "--skip-bad", "--stride", 16, "--out", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").glob("*.seg.dcm")}
    assert names == {"01.seg.dcm", "01.lung.seg.dcm"}


def test_a_slice_that_cannot_be_decoded_leaves_no_files(trained, tmp_path):
    folder = tmp_path / "in"
    series(folder / "a", body(), JPEG2000Lossless, spacing=SPACING)
    path = folder / "a" / "00.dcm"
    path.write_bytes(path.read_bytes()[:-3000] + bytes(3000))
    series(folder / "b", body(), spacing=SPACING, uid=f"{ROOT}.5", number=5)
    code, _, lines = run(trained, folder, "--out", tmp_path / "out", "--stride", 16)
    if code == 0:
        pytest.skip("this decoder accepts the damaged pixels")
    assert "a/00.dcm" in lines[0]
    assert {one.name for one in tmp_path.iterdir()} == {"in"}
    good(trained, folder, "--out", tmp_path / "out", "--stride", 16, "--skip-bad")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["left_out"]["unreadable slices"] == 1


def test_a_series_is_chosen_by_number_folder_or_uid(trained, tmp_path):
    one_number(tmp_path / "in")
    code, _, lines = run(trained, tmp_path / "in", "--series", 4, "--out", tmp_path / "out")
    assert code == 2
    assert "2 series have this name" in lines[-1]
    for name, word in (("folder", "b"), ("uid", f"{ROOT}.{ord('c')}")):
        out = tmp_path / name
        good(trained, tmp_path / "in", "--series", word, "--out", out, "--stride", 16)
        assert len(pd.read_csv(out / "shares.csv")) == 1
    code, _, lines = run(trained, tmp_path / "in", "--series", "no", "--out", tmp_path / "out")
    assert code == 2
    assert "no such series" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reason", "5"], "--reason 5: must be X,Y"),
        (["--reason", "nan,64"], "--reason nan,64: "),
        (["--reason", "128,64"], "--reason 128,64: "),
        (["--reason", "64,-1"], "--reason 64,-1: "),
        (["--reason", "2,2", "--slice", 1, "--stride", 16], "--reason 2,2: "),
        (["--certain", 2], "--certain 2: must lie between 0 and 1"),
        (["--window", "3/0"], "the width must be greater than 0"),
        (["--slice", 9], "--slice 9"),
        (["--mask", "nowhere"], "--mask nowhere: "),
        (["--truth", "nowhere"], "--truth nowhere: "),
        (["--device", "cuda:77"], "--device cuda:77: not available"),
        (["--spacing", 1, "--field", 18], "Give one"),
        (["--field", 4000], "must be a length"),
        (["--field", 900], "a window of 32 x 32 pixels is larger than a slice"),
        (["--mask-values", "1"], "--mask-values needs --mask"),
        (["--labels", "."], "--labels needs --truth"),
    ],
)
def test_bad_options_have_a_line(trained, scans, tmp_path, arguments, message):
    code, _, lines = run(trained, scans, "--out", tmp_path / "out", *arguments)
    assert (code, len(lines)) == (2, 1)
    assert message in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", ["MARKS", "COLUMNS"])
def test_a_class_with_the_name_of_a_mark_or_a_column(trained, scans, tmp_path, monkeypatch, names):
    own = json.loads((trained / "metrics.json").read_text())["classes"][0]
    monkeypatch.setattr(label_map, names, (*getattr(label_map, names), own))
    code, _, lines = run(trained, scans, "--out", tmp_path / "out")
    assert code == 2
    assert f"class '{own}'" in lines[-1]
    assert not (tmp_path / "out").exists()


def test_an_output_that_exists_is_refused(trained, scans, tmp_path):
    code, _, lines = run(trained, scans, "--out", tmp_path)
    assert code == 2
    assert "already exists" in lines[-1]


def test_no_warning_shows_the_name_of_a_patient(trained, tmp_path, recwarn):
    folder = series(tmp_path / "in", body(), spacing=SPACING, PatientName="Solo")
    good(trained, folder, "--seg", "--stride", 16, "--out", tmp_path / "out")
    assert not [one for one in recwarn if "Solo" in str(one.message)]


def test_enhanced_ct_has_captures_in_place_of_a_seg(trained, tmp_path):
    enhanced(tmp_path / "x.dcm", body(3))
    out = tmp_path / "out"
    shown, _ = good(trained, tmp_path / "x.dcm", "--stride", 16, "--out", out, "--seg")
    assert "note: series 1: no SEG and no report" in shown
    assert not list(out.glob("*.seg.dcm"))
    assert {path.name for path in out.glob("*.sc.dcm")} == {
        path.with_suffix(".sc.dcm").name for path in out.glob("01-*.png")
    }
    summary = json.loads((out / "summary.json").read_text())
    assert summary["objects"] == {"sc": 3, "series_without_seg": 1}


def test_pictures_and_tables_are_kept_without_a_seg(trained, tmp_path):
    folder = series(tmp_path / "in", body(), spacing=SPACING, FrameOfReferenceUID=None)
    shown, _ = good(trained, folder, "--seg", "--stride", 16, "--out", tmp_path / "out")
    assert "no Frame Of Reference UID" in shown
    assert shown.index("no SEG") < shown.index("series 1 slice 0")  # before the work
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"01-0000.png", "01-0000.sc.dcm", "shares.csv", "windows.csv"}


def test_captures_beside_a_seg(trained, scans, tmp_path):
    good(trained, scans, "--seg", "--captures", "--slice", 0, "--stride", 16,
         "--out", tmp_path / "out")  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["objects"] == {"seg": 1, "lung.seg": 1, "sr": 1, "sc": 1}
    capture = dcmread(tmp_path / "out" / "01-0000.sc.dcm")
    with Image.open(tmp_path / "out" / "01-0000.png") as image:
        np.testing.assert_array_equal(capture.pixel_array, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("option", ["--seg", "--captures"])
def test_objects_need_a_dicom_series(trained, tmp_path, option):
    affine = np.diag([-1.5, -1.5, 2.0, 1])
    nib.save(
        nib.Nifti1Image(body().transpose(2, 1, 0).astype(np.int16), affine), tmp_path / "v.nii"
    )
    code, _, lines = run(trained, tmp_path / "v.nii", option, "--out", tmp_path / "out")
    assert code == 2
    assert "no DICOM series" in lines[-1]


def test_8_bit_previews_beside_dicom_are_left_out_and_counted(trained, scans, tmp_path):
    folder = shutil.copytree(scans, tmp_path / "in" / "a").parent
    for name, side in (("a/small.jpg", 32), ("a/large.png", 512), ("patch.png", 32)):
        Image.new("L", (side, side)).save(folder / name)
    shown, _ = good(trained, folder, "--stride", 16, "--slice", 0, "--out", tmp_path / "out")
    assert "2 previews" in shown
    assert pd.read_csv(tmp_path / "out" / "patches.csv")["file"].tolist() == ["patch.png"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["previews"] == 2


@pytest.mark.parametrize(("field", "count"), [(21.5, 0), (22, 1), (14, 1)])
def test_windows_of_another_width_are_reported(trained, scans, tmp_path, field, count):
    shown, _ = good(trained, scans / "00.dcm", "--field", field, "--stride", 32,
                    "--out", tmp_path / "out")  # fmt: skip
    line = f"warning: series 1: windows are {field:.1f} mm wide, but training patches 18.0 mm"
    assert shown.count(line) == count
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["series_of_another_width"] == count


def test_patients_are_not_pooled(trained, tmp_path):
    for name in "AB":
        folder = tmp_path / "in" / name
        series(folder, body(), spacing=SPACING, uid=f"{ROOT}.{ord(name)}", patient=name)
    shown, _ = good(trained, tmp_path / "in", "--out", tmp_path / "out", "--stride", 16)
    assert pd.read_csv(tmp_path / "out" / "patients.csv")["patient"].tolist() == ["A", "B"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (len(summary["by_patient"]), summary["shares"]) == (2, {})
    assert "patient 2: 1 slices" in shown
