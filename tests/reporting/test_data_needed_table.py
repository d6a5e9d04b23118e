"""The table of the training data that a condition needs, in the report's files."""

import numpy as np
import pandas as pd
import pytest

from made_runs import make_sweep
from stagetransfer.api import load_runs
from stagetransfer.reporting import make_report


def table(outputs, ratios, conditions=("scratch", "two_stage")):
    make_sweep(outputs, conditions, ratios, (0, 1, 2), groups_per_class=12)
    report = make_report([outputs], count=300)
    file = report / "tables" / "data_needed.csv"
    return (pd.read_csv(file) if file.is_file() else None), (report / "report.md").read_text()


def test_a_better_condition_needs_less_data(tmp_path):
    found, page = table(tmp_path, (0.2, 0.6, 1.0))
    assert list(found["figure"]) == ["accuracy", "recall"]
    assert set(found["condition"]) == {"two_stage"}
    assert set(found["reference"]) == {"scratch"}
    accuracy = found.iloc[0]
    assert accuracy["low"] <= accuracy["share"] <= accuracy["high"]
    assert accuracy["share"] < 1
    runs = [run for run in load_runs(tmp_path) if (run.condition, run.ratio) == ("scratch", 1)]
    assert accuracy["goal"] == pytest.approx(np.mean([run.metrics["accuracy"] for run in runs]))
    assert "Training data needed to reach scratch" in page


def test_a_condition_that_never_gets_there(tmp_path):
    found, _ = table(tmp_path, (0.2, 1.0), ("natural", "two_stage", "scratch"))
    # scratch comes first in the report, whatever the order of the runs is.
    assert set(found["condition"]) == {"natural", "two_stage"}
    assert not np.isnan(found["goal"]).any()


def test_one_ratio_or_one_condition_has_no_table(tmp_path):
    assert table(tmp_path / "a", (1.0,))[0] is None
    assert table(tmp_path / "b", (0.2, 1.0), ("scratch",))[0] is None
