"""Runs with wrong labels or a long tail have sections of their own, against what is left."""

import numpy as np
import pandas as pd
import pytest
import yaml

from made_runs import gather_runs, make_run
from stagetransfer.errors import UserError
from stagetransfer.reporting import make_report
from stagetransfer.runs.gather import gather_data_sets
from stagetransfer.runs.training_shares import LABELS, TAIL


def worse_run(outputs, condition, seed, ratio=1.0, **settings):
    """A run with these settings of the target's domain; the fewer right labels, the worse."""
    skill = 1.5 * (1 - settings.get("label_noise", 0)) * settings.get("long_tail", 1) ** 0.3
    skill *= 1.3 if condition == "two_stage" else 1
    key = f"{abs(hash((condition, seed, ratio, *settings.items()))):016x}"[:8]
    finished = settings.pop("finished", True)
    folder = make_run(outputs, condition, ratio, seed, skill=skill, key=key, finished=finished)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["domain"]["target"] |= settings
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("worse")
    for condition in ("scratch", "two_stage"):
        for seed in (0, 1, 2):
            for ratio in (0.5, 1.0):
                worse_run(outputs, condition, seed, ratio)
            for noise in (0.2, 0.4):
                worse_run(outputs, condition, seed, label_noise=noise)
            worse_run(outputs, condition, seed, long_tail=0.1)
    worse_run(outputs, "scratch", 3, label_noise=0.2, finished=False)
    worse_run(outputs, "scratch", 0, 0.5, label_noise=0.2)
    worse_run(outputs, "scratch", 0, label_noise=0.2, long_tail=0.1)
    return outputs


def test_each_share_has_its_runs(outputs):
    (found,), errors, _ = gather_data_sets([outputs], shares=True)
    assert not errors
    assert len(found.runs) == 2 * 3 * 2
    assert set(found.by_share) == {LABELS, TAIL}
    noise, tail = found.by_share[LABELS], found.by_share[TAIL]
    assert {run.ratio for run in noise.runs} == {1.0, 0.8, 0.6}
    assert len(noise.runs) == 2 * 3 * 3
    assert {run.ratio for run in tail.runs} == {1.0, 0.1}
    assert len(tail.runs) == 2 * 3 * 2
    (unfinished,) = noise.unfinished
    assert unfinished.place == ("scratch", 0.8, 3)
    assert not tail.unfinished
    assert not found.unfinished
    assert len(found.not_shown) == 2


def test_other_commands_do_not_mix_them(outputs):
    with pytest.raises(UserError, match=r"domain\.target\.(label_noise|long_tail)"):
        gather_runs([outputs])
    only = gather_runs([outputs], only=["domain.target.label_noise=0.4"], conditions=["two_stage"])
    assert len(only.runs) == 3


def test_one_value_for_all_is_no_share(outputs):
    only = ["domain.target.label_noise=0.4"]
    (found,), _, _ = gather_data_sets([outputs], only=only, shares=True)
    assert not found.by_share
    assert len(found.runs) == 6


def test_without_a_common_best_nothing_is_guessed(tmp_path):
    worse_run(tmp_path, "scratch", 0, label_noise=0.2)
    worse_run(tmp_path, "scratch", 1, long_tail=0.2)
    found, errors, _ = gather_data_sets([tmp_path], shares=True)
    assert not found
    assert "--only domain.target.label_noise" in str(next(iter(errors.values())))


def test_the_report_has_slopes_and_areas_of_each_share(outputs, tmp_path):
    report = make_report([outputs], tmp_path / "report", count=200)
    page = (report / "report.md").read_text()
    assert page.index("## Less training data") < page.index("## Wrong training labels")
    assert page.index("## Wrong training labels") < page.index("## A long tail of classes")
    (found,), _, _ = gather_data_sets([outputs], shares=True)
    for share, name in ((LABELS, "label_noise"), (TAIL, "long_tail")):
        table = pd.read_csv(report / "tables" / f"table3-{name}.csv")
        runs = [run for run in found.by_share[share].runs if run.condition == "scratch"]
        x = np.array([run.ratio for run in runs])
        y = np.array([run.metrics["accuracy"] for run in runs])
        row = table[(table.figure == "accuracy") & (table.condition == "scratch")].iloc[0]
        assert row["slope"] == pytest.approx(np.polyfit(x, y, 1)[0])
        levels = np.unique(x)
        means = [y[x == level].mean() for level in levels]
        area = np.trapezoid(means, levels) / (levels[-1] - levels[0])
        assert row["area"] == pytest.approx(area)
        assert row["area_low"] < area < row["area_high"]
        differences = pd.read_csv(report / "tables" / f"area_differences-{name}.csv")
        assert set(differences["a"] + differences["b"]) == {"two_stagescratch"}
        assert (report / "tables" / f"data_needed-{name}.csv").is_file()
        assert (report / "plots" / f"figure5-{name}.svg").is_file()
    assert all(name in page for name in found.not_shown)
    whole = pd.read_csv(report / "tables" / "table3.csv")
    assert set(whole["ratios"]) == {2}
