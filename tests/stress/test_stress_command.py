"""`stagetransfer stress` on real networks: complete, the same again, or nothing."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import SMALL
from made_runs import gather_runs
from stagetransfer.cli import app
from stagetransfer.config.compose import compose_settings
from stagetransfer.pages import render
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.restore import restore_runs
from stagetransfer.reporting.stress_section import stress_sections
from stagetransfer.runs.reader import read_runs
from stagetransfer.runs.study import Study
from stagetransfer.stress import corrupted_tests
from stagetransfer.stress.corrupted_tests import scale_of
from stagetransfer.stress.corruptions import CORRUPTIONS, Scale


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """A function that trains a run on 60 patches of 20 patients, whose HU window is recorded."""
    root = tmp_path_factory.mktemp("patches")
    random, rows = np.random.default_rng(0), ["file,label,patient"]
    for i in range(60):
        patch = random.normal(90 + 60 * (i % 2), 25, (32, 32)).clip(0, 255).astype(np.uint8)
        Image.fromarray(patch).save(root / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]},p{i // 3}")
    (root / "labels.csv").write_text("\n".join(rows))
    (root / "summary.json").write_text(json.dumps({"cut": {"level": -600, "width": 1500}}))
    small = [word for word in SMALL if not word.startswith("+domain.target")]
    target = ["domain/target=csv", f"domain.target.root={root}"]

    def trained(outputs, *words):
        words = [*words, *small, *target, f"paths.outputs={outputs}"]
        return ChainRunner(compose_settings(words)).run()

    return trained


@pytest.fixture(scope="module")
def outputs(train, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    for seed in (0, 1):
        train(outputs, "+experiment=scratch", f"seed={seed}")
        train(outputs, "+experiment=texture", f"seed={seed}", "source_seed=0")
    return outputs


@pytest.fixture
def stress(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr("sys.argv", ["stagetransfer", "stress", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        return int(ended.value.code or 0), capsys.readouterr()

    return call


def test_from_runs_to_the_page(outputs, stress):
    code, _ = stress(outputs, "--count", "100", "--device", "cpu")
    assert code == 0
    out = outputs / "stress"
    table = pd.read_csv(out / "stress.csv")
    assert len(table) == 4 * len(CORRUPTIONS) * 6
    assert set(table.unit) >= {"HU", "pixels"}  # the window is recorded
    for folder in (outputs / "runs").glob("*-r1-*"):
        clean = table[(table.run == folder.name) & (table.severity == 0)]
        tested = json.loads((folder / "metrics.json").read_text())["test"]
        assert np.allclose(clean.accuracy, tested["accuracy"])
        assert np.allclose(clean.recall, tested["recall"])
        assert np.allclose(clean.cross_entropy, tested["cross_entropy"], rtol=1e-4)
        corrupted = table[(table.run == folder.name) & (table.severity > 0)]
        assert corrupted.cross_entropy.nunique() > 50
    names = {file.name for file in (out / "tables").glob("*.csv")}
    tables = ("severities", "relative_error", "differences", "accuracy", "amounts")
    assert {f"{name}.csv" for name in tables} <= names
    errors = pd.read_csv(out / "tables" / "relative_error.csv")
    assert set(errors.column) == {"texture"}
    assert {f"{name}.png" for name in ("accuracy", "corruptions")} <= {
        file.name for file in (out / "plots").iterdir()
    }
    assert (out / "report.html").is_file()
    # A report of these runs has its numbers.
    (section,) = stress_sections(Study(gather_runs([outputs]).runs, 50), outputs, "")
    _, means, gaps, relative = section.blocks
    severities = pd.read_csv(out / "tables" / "severities.csv")
    assert len(means.rows) == len(severities) / 7 == 2 * 4
    assert [row[0] for row in gaps.rows] == ["texture - scratch"]
    assert relative.columns == ["corruption", "texture"]
    # The same runs, alone and in other batches, have the same figures.
    (folder,) = (outputs / "runs").glob("texture-r1-s1-*")
    code, shown = stress(folder, "--out", out, "--count", "100")
    assert code == 0
    assert "no run from scratch" in shown.out
    alone = pd.read_csv(out / "stress.csv")
    both = table[table.run == folder.name].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both)
    assert not (out / "tables" / "relative_error.csv").exists()  # that of the page before


def test_batches_do_not_matter(outputs, monkeypatch):
    (folder,) = (outputs / "runs").glob("scratch-r1-s0-*")
    (run,), (restored,) = read_runs([folder])[0], restore_runs([folder])
    data = restored.data
    places = {folder: (restored, data)}
    found = []
    for batch in (128, 9):
        monkeypatch.setattr(corrupted_tests, "BATCH", batch)
        found.append(corrupted_tests.tested(run, places, scale_of(data), "cpu"))
    assert found[0].shape == (66, len(run.ids), len(run.classes))
    assert np.allclose(*found, atol=1e-5)


def test_an_error_leaves_nothing(outputs, stress, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(render, "write_text", broken)
    (folder,) = (outputs / "runs").glob("scratch-r1-s0-*")
    code, shown = stress(folder, "--out", tmp_path / "out", "--count", "100")
    assert code == 1
    assert len(shown.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_was_not_kept(stress, train, tmp_path):
    folder = train(tmp_path, "+experiment=scratch", "keep=none")
    code, shown = stress(folder)
    assert (code, len(shown.err.splitlines())) == (2, 1)
    assert folder.name in shown.err
    assert not (tmp_path / "stress").exists()


@pytest.mark.parametrize(
    ("cut", "scale"),
    [
        ({"level": -500, "width": 1200}, Scale((-500.0, 1200.0))),
        ({"level": -500, "width": 1200, "neighbours": 1}, Scale((-500.0, 1200.0), True)),
        ({"level": -500, "width": 1200, "neighbours": 0}, Scale((-500.0, 1200.0))),
        ({"level": -500, "width": 0}, Scale()),
        ({"level": "x", "width": 1200}, Scale()),
        ({}, Scale()),
    ],
)
def test_the_recorded_window(tmp_path, cut, scale):
    (tmp_path / "summary.json").write_text(json.dumps({"cut": cut}))

    class Data:
        class settings:
            layout, root = "csv", tmp_path

    assert scale_of(Data()) == scale


def test_each_data_set_of_a_folder_has_a_page_of_its_own(train, stress, tmp_path):
    train(tmp_path, "+experiment=scratch")
    words = [*SMALL, "+experiment=scratch", f"paths.outputs={tmp_path}"]
    ChainRunner(compose_settings(words)).run()
    code, shown = stress(tmp_path, "--count", "100", "--device", "cpu")
    assert code == 0, shown.err
    tables = [pd.read_csv(file) for file in (tmp_path / "stress").glob("*/stress.csv")]
    assert [len(table) for table in tables] == [len(CORRUPTIONS) * 6] * 2
    assert len({table.run[0] for table in tables}) == 2
    assert len(list((tmp_path / "stress").glob("*/report.html"))) == 2
