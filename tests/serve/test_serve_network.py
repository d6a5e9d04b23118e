"""Pages of `stagetransfer serve` that need a trained network: images, and the second opinion."""

import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

from ct.ct_series import series
from inference.test_predict_command import body
from stagetransfer.cli.app import app
from stagetransfer.inference import WindowPredictions
from stagetransfer.serve import create_app
from stagetransfer.serve.run_images import images_of
from stagetransfer.serve.site import Site


@pytest.fixture(scope="module")
def run(start, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    return start(outputs, "+experiment=scratch", "recipe.epochs=1").run()


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two slices of a body with two lungs."""
    folder = tmp_path_factory.mktemp("scans")
    series(folder, body(2), spacing=("1.5", "1.5"))
    return folder


@pytest.fixture(scope="module")
def pages(run, scans):
    site = Site([run], (scans, run.name))
    found = TestClient(create_app(lambda: site, "secret"), "http://127.0.0.1")
    found.site = site
    assert found.get("/?token=secret").status_code == 200
    return found


def pixels(pages, address):
    answer = pages.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    return np.asarray(Image.open(BytesIO(answer.content)))


def test_the_grid_shows_the_chosen_images_by_confidence(pages, run):
    table = pd.read_csv(run / "predictions.csv")
    highest = table.filter(like="p_").max(axis=1)
    wrong = table["label"] != table["prediction"]
    asked = {"outcome": "wrong", "order": "most confident first"}
    page = pages.get("/images", params=asked).text
    assert f"{wrong.sum()} of {len(table)} test images" in page
    numbers = [int(x) for x in re.findall(rf'href="/images/{run.name}/(\d+)"', page)]
    assert numbers == highest[wrong].sort_values(ascending=False, kind="stable").index[:48].tolist()
    label = table["label"].iloc[-1]
    page = pages.get("/images", params={"label": label, "prediction": label}).text
    both = (table["label"] == label) & (table["prediction"] == label)
    assert f"{both.sum()} of {len(table)} test images" in page
    assert pages.get("/images", params={"run": "../x"}).status_code == 404
    assert pages.get("/images", params={"page": "9" * 30}).status_code == 200


def test_an_image_has_its_pixels_probabilities_and_nearest_training_images(pages, run):
    data = images_of(pages.site, run.name).restored.data
    table = pd.read_csv(run / "predictions.csv")
    row = data.samples.ids.index(table["id"][5])
    assert (pixels(pages, f"/test/{run.name}/5.png") == data.samples.images[row]).all()
    page = pages.get(f"/images/{run.name}/5").text
    for name, p in table.filter(like="p_").iloc[5].items():
        assert f'<meter min="0" max="1" value="{p}" aria-label="Probability of {name[2:]}">' in page
    near = pages.get(f"/images/{run.name}/5/nearest").text
    positions = [int(x) for x in re.findall(rf"/train/{run.name}/(\d+).png", near)]
    assert len({*positions}) == 8
    example = images_of(pages.site, run.name).reference.examples.images[positions[0]]
    shown = pixels(pages, f"/train/{run.name}/{positions[0]}.png")
    assert (shown == example.movedim(0, -1).squeeze().numpy()).all()
    row = data.rows["train"][positions[0]]
    assert data.classes[data.samples.labels[row]] in near
    assert pixels(pages, f"/images/{run.name}/5/explained.png").shape[2] == 4


def test_the_nearest_training_image_of_a_training_image_is_itself(pages, run):
    found = images_of(pages.site, run.name)
    (position, _, distance), *others = found.nearest(found.restored.data.stored("train", [3]))
    assert position == 3
    assert distance < 0.5 < others[0][2]  # not 0: the features are kept in 16 bits


@pytest.mark.parametrize("path", ["images/{}/100000", "test/{}/100000.png", "train/{}/100000.png"])
def test_an_image_that_is_not_there_is_not_found(pages, run, path):
    assert pages.get(f"/{path.format(run.name)}").status_code == 404


def test_layers_are_the_label_map_of_predict(pages, run, scans, tmp_path):
    words = ["predict", str(run), str(scans), "--slice", "1", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 0
    shares = pd.read_csv(tmp_path / "out" / "shares.csv").iloc[0]
    windows = pd.read_csv(tmp_path / "out" / "windows.csv")
    page = pages.get("/slices?slice=1").text
    assert "Research use, not a diagnosis." in page
    names = pages.site.reading.classifier.label_names
    shown = [pixels(pages, f"/slices/0/1/{code}.png")[:, :, 3] > 0 for code in range(len(names))]
    read = np.stack(shown[:-1])
    for i, name in enumerate(names[:-1]):
        assert read[i].sum() / read.sum() == pytest.approx(shares[name], abs=1e-5)
        assert f"{100 * shares[name]:.1f} %" in page
    assert (read.sum(0) <= 1).all()
    outline = pixels(pages, "/slices/0/1/outline.png")[:, :, 3] > 0
    assert 0 < outline.sum() < read.sum()
    one = windows.iloc[len(windows) // 2]
    part = pages.get(f"/slices/0/1/window?x={round(one.x)}&y={round(one.y)}").text
    assert f": {one.opinion}." in part
    for name in names[:-3]:
        assert re.search(rf">{name}</th><td>{one[f'p_{name}']:.3f}</td>", part)
    (number,) = re.findall(r"explained.png\?window=(\d+)", part)
    assert int(number) == len(windows) // 2
    # A window has 32 pixels. The box counts from the corner of the first pixel, not its centre.
    assert f'data-box="{one.x - 15.5:.1f} {one.y - 15.5:.1f} 32.0 32.0"' in part
    assert pixels(pages, f"/slices/0/1/explained.png?window={number}").shape[2] == 4


def test_what_predict_says_about_windows_is_shown(pages, monkeypatch):
    page = pages.get("/slices").text
    assert "series 1: windows are 48.0 mm wide, but training patches 18.0 mm" in page
    assert "HU. Give" not in page
    reading = pages.site.reading
    other = replace(reading.images.reference, stated=False, field=48.0)
    monkeypatch.setitem(reading.images.__dict__, "reference", other)
    reading.problems.note("kind", "scan.nii", "no air")
    page = pages.get("/slices").text
    assert "mm wide, but training patches" not in page
    assert "taken to be -600/1500 HU" in page
    assert "scan.nii: no air" in page
    reading.problems.notes.clear()


def test_why_no_window_was_classified(pages, monkeypatch):
    pages.get("/slices")
    reading = pages.site.reading
    found, coverage = reading.slice(0, 1), reading.patches.coverage
    empty = WindowPredictions(np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int64))
    for lung, why in (
        (found.lung, f"a share of lung of at least {coverage}."),
        (np.zeros_like(found.lung), "because no plausible lung was found on it."),
    ):
        other = replace(found, predictions=empty, lung=lung)
        monkeypatch.setattr(reading, "slice", lambda series, index, other=other: other)
        assert why in pages.get("/slices?slice=1").text


def test_outside_of_the_lungs_nothing_is_explained(pages):
    assert "x 0, y 0: outside the lungs." in pages.get("/slices/0/0/window?x=0&y=0").text
    assert "x must be 0 to 127" in pages.get("/slices/0/0/window?x=128&y=-1").text


@pytest.mark.parametrize(
    "path",
    ["?slice=2", "?series=1", "/0/2/grey.png", "/1/0/grey.png", "/0/0/99.png", "/0/0/x.png",
     "/0/0/explained.png?window=99999"],
)  # fmt: skip
def test_a_slice_or_layer_that_is_not_there_is_not_found(pages, path):
    assert pages.get(f"/slices{path}").status_code == 404


def test_without_an_input_folder_the_page_says_how_to_give_one(run):
    site = Site([run])
    found = TestClient(create_app(lambda: site, "secret"), "http://127.0.0.1")
    assert "--input" in found.get("/slices?token=secret").text
    assert found.get("/slices/0/0/grey.png").status_code == 404


def test_the_input_and_its_run_belong_together(run, tmp_path):
    for words in (["--input", str(tmp_path)], ["--run", str(run)]):
        result = CliRunner().invoke(app, ["serve", str(run), *words])
        assert result.exit_code == 1
        assert "Give it with" in str(result.exception)
