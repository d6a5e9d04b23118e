"""StageTransfer from Python: train, load, report."""

import subprocess
import sys

import pandas as pd
import pytest

import stagetransfer as st
from conftest import SMALL
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.statistics import classification_metrics

FEW = [*SMALL, "recipe.epochs=1"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def run(outputs):
    return st.train("scratch", FEW, outputs=outputs)


def test_train_returns_the_finished_run(run, outputs):
    assert run.folder.parent == outputs / "runs"
    recorded = read_json(run.folder / "metrics.json")["test"]
    assert run.metrics == recorded
    found = classification_metrics(run.labels, run.probabilities, run.classes)
    assert run.metrics["accuracy"] == pytest.approx(found["accuracy"])


def test_the_same_call_finds_the_finished_run(run, outputs):
    before = (run.folder / "metrics.json").stat().st_mtime_ns
    assert st.train("scratch", FEW, outputs=outputs).name == run.name
    assert (run.folder / "metrics.json").stat().st_mtime_ns == before


def test_the_name_is_that_of_the_command_line(run, start, outputs):
    assert start(outputs, "+experiment=scratch", "recipe.epochs=1").folder.name == run.name


def test_runs_as_a_data_frame(run, outputs):
    runs = st.load_runs(outputs)
    assert [one.name for one in runs] == [run.name]
    frame = runs.to_frame()
    assert isinstance(frame, pd.DataFrame)
    (row,) = frame.to_dict("records")
    assert row["condition"] == "scratch"
    assert row["ratio"] == 1
    assert row["num_test"] == len(run.ids)
    assert row["learned"] is run.learned
    assert row["accuracy"] == run.metrics["accuracy"]


def test_report(run, outputs):
    folder = st.report(outputs, resamples=200)
    assert (folder / "report.html").is_file()
    assert "1 finished run" in (folder / "report.md").read_text()


def test_progress_is_shown_only_on_request(outputs, capfd):
    st.train("scratch", [*FEW, "seed=1"], outputs=outputs, verbose=False)
    assert "epoch 1/1" not in capfd.readouterr().err
    st.train("scratch", [*FEW, "seed=2"], outputs=outputs)
    assert "epoch 1/1" in capfd.readouterr().err


def test_bad_settings_are_an_exception(outputs):
    with pytest.raises(UserError, match="ratio=3"):
        st.train("scratch", ["ratio=3"], outputs=outputs)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, stagetransfer; print(sorted({'torch', 'pandas', 'hydra'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_chain_without_target_is_refused_before_any_training(tmp_path):
    with pytest.raises(UserError, match=r"^chain: "):
        st.train(overrides=[*FEW, "chain=[texture]"], outputs=tmp_path / "out")
    assert not (tmp_path / "out").exists()
