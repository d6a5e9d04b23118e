"""Folds of one split file in the report: pooled; folds that do not match are refused."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from made_runs import add_learning_curve, gather_runs, make_run
from stagetransfer.errors import UserError
from stagetransfer.reporting import make_report
from stagetransfer.reporting.depth_section import choose
from stagetransfer.reporting.tensorboard_board import write_board
from stagetransfer.runs.pooled_folds import pool_folds
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.study import Study
from stagetransfer.runs.tuning_depth import name_depths


def make_folds(outputs, conditions=("scratch", "two_stage"), seeds=(0, 1), **settings):
    for condition in conditions:
        for seed in seeds:
            for fold in range(3):
                add_learning_curve(make_run(outputs, condition, seed=seed, fold=fold, **settings))
    return outputs


def read(outputs):
    return read_runs(find_runs([outputs]))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return make_folds(tmp_path_factory.mktemp("outputs"))


def test_pooled_runs_hold_each_image_once_predicted_by_the_run_of_its_fold(outputs, tmp_path):
    runs, _ = pool_folds(*read(outputs))
    assert [run.place for run in runs] == [
        (c, 1.0, s) for c in ("scratch", "two_stage") for s in (0, 1)
    ]
    whole = read_runs([make_run(tmp_path, "two_stage", seed=1)])[0][0]
    pooled = runs[-1]
    order = [pooled.ids.index(name) for name in whole.ids]
    assert len(pooled.ids) == len(whole.ids)
    assert (pooled.labels[order] == whole.labels).all()
    assert np.allclose(pooled.probabilities[order], whole.probabilities)
    # The bootstrap therefore gives the same result as for one run on these images.
    ours, theirs = Study([pooled], 200), Study([whole], 200)
    for figure in ("accuracy", "auroc", "f1"):
        assert ours.interval("two_stage", 1.0, figure) == theirs.interval("two_stage", 1.0, figure)


def test_the_report_has_pooled_results_and_those_of_each_fold(outputs):
    folder = make_report([outputs], count=200)
    table = pd.read_csv(folder / "tables" / "folds.csv", dtype={"fold": str})
    accuracy = table[(table["figure"] == "accuracy") & (table["condition"] == "scratch")]
    assert list(accuracy["fold"]) == ["0", "1", "2", "pooled"]
    assert list(accuracy["images"]) == [30, 30, 30, 90]
    of_folds = (
        accuracy["estimate"].iloc[:3].mean()
    )  # folds of equal size: their mean is the pooled result
    assert accuracy["estimate"].iloc[3] == pytest.approx(of_folds)
    assert accuracy["low"].le(accuracy["estimate"]).all()
    main = pd.read_csv(folder / "tables" / "table2.csv")
    pooled = main[(main["figure"] == "accuracy") & (main["condition"] == "scratch")]
    assert pooled["mean"].item() == pytest.approx(of_folds)
    page = (folder / "report.md").read_text()
    assert "4 finished runs of 2 conditions" in page
    assert "folds of one split file (digest d1ce)" in page
    assert "two\\_stage - scratch" in page or "two_stage - scratch" in page


def test_the_board_and_the_curves_use_pooled_runs(outputs):
    gathered = gather_runs([outputs])
    runs, unfinished = gathered.runs, gathered.unfinished
    assert [len(run.parts) for run in runs] == [3] * 4
    assert not unfinished
    (board,) = write_board(outputs, count=50)
    assert len([p for p in board.iterdir() if p.name.endswith("-3folds")]) == 4


def test_a_condition_without_all_folds_is_listed_and_not_averaged(tmp_path):
    make_folds(tmp_path)
    make_run(tmp_path, "natural", fold=1)
    folder = make_report([tmp_path], count=50)
    page = (folder / "report.md").read_text()
    line = r"natural-r1-s0-\w{8}-3folds: fold 0, 2 of 0 to 2 has no finished run"
    assert re.search(line, page)
    assert "natural" not in set(pd.read_csv(folder / "tables" / "table2.csv")["condition"])


def test_pooled_runs_of_two_depths_have_two_names_and_figures(tmp_path):
    """Figures are kept by the name of a run; with one name, one depth had those of the other."""
    for depth, skill, recalls in (("conv1", 2.0, (0.9, 0.1, 0.1)), ("fc8", 0.2, (0.8, 0.8, 0.8))):
        for fold, recall in enumerate(recalls):
            make_run(
                tmp_path, "natural", fold=fold, tune_from=depth, skill=skill,
                validation={"accuracy": recall},
            )  # fmt: skip
    runs, _ = pool_folds(*name_depths(*read(tmp_path)))
    assert len({run.name for run in runs}) == 2
    study = Study(runs, 200)
    a, b = (study.interval(name, 1.0, "accuracy").estimate for name in study.conditions)
    assert abs(a - b) > 0.1
    choices, validated = choose(study, list(study.conditions), "accuracy")
    assert validated
    # By the mean over all folds, not by the first fold, on which conv1 is better.
    assert choices[1.0][0].a.endswith("fc8")


def test_a_warning_if_all_runs_are_on_one_fold(tmp_path):
    for condition in ("scratch", "natural"):
        make_run(tmp_path, condition, fold=2)
    folder = make_report([tmp_path], count=50)
    assert "All runs are on fold 2" in (folder / "report.md").read_text()


def test_the_missing_fold_is_named_if_no_condition_has_all_folds(tmp_path):
    make_run(tmp_path, "scratch", fold=0)
    make_run(tmp_path, "scratch", fold=2)
    with pytest.raises(UserError, match=r"fold 1 of 0 to 2 .* --only domain\.target\.fold=0"):
        make_report([tmp_path])


def test_each_fold_may_have_teachers_of_its_own(tmp_path):
    for fold in range(3):
        file = make_run(tmp_path, fold=fold) / "config.yaml"
        file.write_text(f"{file.read_text()}teacher: [/runs/of-fold-{fold}]\n")
    (run,), _ = pool_folds(*read(tmp_path))
    assert len(run.folds) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"digest": "beef"}, "folds come from different split files"),
        ({"fingerprint": "beef"}, "target domain differ"),
        ({"epochs": 8}, r"differ in recipe\.epochs"),
    ],
)
def test_folds_that_do_not_belong_together_are_refused(tmp_path, settings, message):
    make_run(tmp_path, fold=0)
    make_run(tmp_path, fold=1)
    make_run(tmp_path, fold=2, **settings)
    with pytest.raises(UserError, match=message):
        pool_folds(*read(tmp_path))


def test_the_same_fold_twice_is_refused(tmp_path):
    make_folds(tmp_path, ("scratch",), (0,))
    make_run(tmp_path, fold=1, key="cafe", epochs=5)
    with pytest.raises(
        UserError, match=r"ratio, seeds and fold, but they differ in recipe\.epochs"
    ):
        pool_folds(*read(tmp_path))


def test_folds_and_one_test_set_have_a_report_each(tmp_path):
    make_folds(tmp_path, ("scratch",), (0,))
    make_run(tmp_path, "natural")
    index = make_report([tmp_path], count=20)
    for name, condition in (("embedded-folds", "scratch"), ("embedded", "natural")):
        found = pd.read_csv(index / name / "tables" / "table2.csv")
        assert {*found["condition"]} == {condition}
