"""An ensemble is the mean of calibrated probabilities, and is compared as any condition is."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from made_runs import make_run, make_sweep
from stagetransfer.cli.app import app
from stagetransfer.errors import UserError
from stagetransfer.names import is_folder_name
from stagetransfer.reporting import make_report
from stagetransfer.runs.ensembles import (
    NAME,
    best_condition,
    calibrated,
    ensemble_study,
    ensembles,
    temperature,
)
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.statistics import apply_temperature, fit_temperature


def with_validation(outputs):
    """Give each run a validation.csv: the first half of its test images."""
    for folder in (outputs / "runs").iterdir():
        table = pd.read_csv(folder / "predictions.csv")
        table.iloc[::2].to_csv(folder / "validation.csv", index=False)
    return outputs


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    make_sweep(folder, ("scratch", "texture"), (0.2, 1.0), (0, 1, 2), groups_per_class=12)
    return with_validation(folder)


@pytest.fixture(scope="module")
def runs(outputs):
    return read_runs(find_runs([outputs]))[0]


def test_the_mean_of_calibrated_probabilities(runs):
    made, lines = ensembles([calibrated(run) for run in runs])
    assert lines == []
    assert [(run.ratio, run.seed) for run in made] == [(r, s) for r in (0.2, 1.0) for s in range(3)]
    for one in made:
        total = 0.0
        for run in runs:
            if (run.ratio, run.seed) == (one.ratio, one.seed):
                table = pd.read_csv(run.folder / "validation.csv")
                p = table[[f"p_{name}" for name in run.classes]].to_numpy()
                labels = table["label"].map(list(run.classes).index).to_numpy()
                t = fit_temperature(labels, np.log(p))
                assert temperature(run) == pytest.approx(t)
                order = [run.ids.index(name) for name in one.ids]
                total = total + apply_temperature(run.probabilities, t)[order] / 2
        assert np.allclose(one.probabilities, total)
        assert np.allclose(one.probabilities.sum(1), 1)


def test_the_best_condition_is_chosen_on_validation_images(runs):
    assert best_condition(runs, 1.0) in ("scratch", "texture")


def test_no_condition_can_have_the_name_of_the_ensemble():
    assert not is_folder_name(NAME)


def test_a_validation_table_with_other_images_than_recorded_is_refused(tmp_path):
    make_sweep(tmp_path, ("scratch", "texture"), (1.0,), (0,))
    for folder in (with_validation(tmp_path) / "runs").iterdir():
        record = json.loads((folder / "metrics.json").read_text())
        count = len(pd.read_csv(folder / "validation.csv"))
        (folder / "metrics.json").write_text(json.dumps({**record, "num_validation": count}))
    assert len(read_runs(find_runs([tmp_path]))[0]) == 2
    lines = (folder / "validation.csv").read_text().splitlines()
    (folder / "validation.csv").write_text("\n".join(lines[:-1]))
    cut = [run for run in read_runs(find_runs([tmp_path]))[0] if run.folder == folder]
    with pytest.raises(UserError, match=r"validation\.csv"):
        temperature(*cut)


def test_what_has_no_ensemble_is_said(tmp_path):
    make_sweep(tmp_path, ("scratch", "texture"), (1.0,), (0, 1))
    make_run(tmp_path, "scratch", seed=2)
    make_run(tmp_path, "scratch", ratio=0.2, seed=0)
    made, lines = ensembles(read_runs(find_runs([with_validation(tmp_path)]))[0])
    assert [run.seed for run in made] == [0, 1]
    assert lines[0] == "r = 0.2: only scratch, so there is nothing to average"
    assert lines[1].startswith("r = 1, seed 2: left out, ")


def test_all_figures_are_of_the_seeds_that_have_an_ensemble(tmp_path):
    make_sweep(tmp_path, ("scratch", "texture"), (1.0,), (0, 1))
    for name in ("scratch", "texture"):
        make_run(tmp_path, name, seed=2, skill=0.1)
    next((tmp_path / "runs").glob("scratch-r1-s2*/metrics.json")).unlink()
    study = ensemble_study(read_runs(find_runs([with_validation(tmp_path)]))[0], 100)
    table = study.table()
    gap = table["ensemble_value"] - table["best_value"]
    assert gap.to_numpy() == pytest.approx(table["difference"].to_numpy(), abs=1e-9)


def test_the_command(outputs, tmp_path):
    done = CliRunner().invoke(app, ["ensemble", str(outputs), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "out" / "ensemble.csv")
    assert len(table) == 2 * 3
    assert (table["ensemble_value"] - table["best_value"]).to_numpy() == pytest.approx(
        table["difference"].to_numpy(), abs=1e-9
    )
    assert (table["low"] < table["high"]).all()
    assert "ensemble - " in done.output
    reported = make_report([outputs], tmp_path / "report") / "tables" / "ensemble.csv"
    pd.testing.assert_frame_equal(pd.read_csv(reported), table)
    predictions = pd.read_csv(tmp_path / "out" / "ensemble-r1-s0.csv")
    run = next(iter((outputs / "runs").glob("scratch-r1-s0*")))
    assert len(predictions) == json.loads((run / "metrics.json").read_text())["num_test"]
    one = CliRunner().invoke(app, ["ensemble", str(outputs), "--conditions", "scratch"])
    assert one.exit_code != 0
