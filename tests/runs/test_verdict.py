"""Which runs learned: judged from what they recorded, or from the files of earlier versions."""

import numpy as np
import pandas as pd
import pytest

from made_runs import make_run
from stagetransfer.runs.pooled_folds import pool_folds
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.verdict import judge, not_learned, why_not_compared

LOW = {"verdict": "not above chance", "recall": 0.35, "low": 0.2, "high": 0.5}
GUESS = 0.01  # no skill, but predictions that differ


def run_of(folder):
    return read_runs([folder])[0][0]


def copy_validation(folder, rows=None):
    table = pd.read_csv(folder / "predictions.csv")
    table.iloc[:rows].to_csv(folder / "validation.csv", index=False)


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({}, "learned"),
        ({"health": {}}, "learned"),
        ({"dead": True}, "constant output"),
        ({"dead": True, "health": LOW | {"verdict": "constant output"}}, "constant output"),
        ({"health": {"verdict": "diverged"}}, "diverged"),
        ({"dead": True, "health": LOW | {"verdict": "diverged"}}, "diverged"),
        # Few validation images cannot show what the test images show plainly.
        ({"health": LOW}, "learned"),
        ({"skill": GUESS, "health": LOW}, "not above chance"),
        ({"skill": GUESS}, "not above chance"),
        # The validation images show what few test images cannot.
        ({"per_class": 3, "groups_per_class": 3, "skill": 0.8, "health": {}}, "learned"),
        ({"per_class": 3, "groups_per_class": 3, "skill": 0.8}, "not above chance"),
    ],
)
def test_verdict(tmp_path, settings, verdict):
    run = run_of(make_run(tmp_path, **settings))
    assert (run.verdict, run.learned) == (verdict, verdict == "learned")


def test_a_constant_on_the_test_set_alone_is_not_constant_output(tmp_path):
    folder = make_run(tmp_path, dead=True)
    other = make_run(tmp_path, seed=1)
    pd.read_csv(other / "predictions.csv").to_csv(folder / "validation.csv", index=False)
    assert run_of(folder).verdict == "learned"  # above chance on the validation images
    copy_validation(folder)
    assert run_of(folder).verdict == "constant output"


def test_runs_of_earlier_versions_are_judged_by_their_validation_images_too(tmp_path):
    folder = make_run(tmp_path, skill=GUESS)
    other = make_run(tmp_path, seed=1)
    assert run_of(folder).verdict == "not above chance"
    pd.read_csv(other / "predictions.csv").to_csv(folder / "validation.csv", index=False)
    assert run_of(folder).learned


def test_pooled_folds_learned_only_if_all_did(tmp_path):
    for fold in range(3):
        make_run(tmp_path, "natural", fold=fold)
        make_run(tmp_path, "scratch", fold=fold, dead=fold == 1)
    scratch, natural = sorted(
        pool_folds(*read_runs(find_runs([tmp_path])))[0], key=lambda run: run.learned
    )
    assert scratch.verdict == "constant output in 1 of 3 folds"
    assert natural.learned
    assert not_learned([scratch]) == (
        "did not learn in 1 of 1 runs (constant output in 1 of 3 folds)"
    )


def test_the_text_counts_runs_and_names_each_kind(tmp_path):
    dead = run_of(make_run(tmp_path, dead=True))
    lost = run_of(make_run(tmp_path, seed=1, health={"verdict": "diverged"}))
    good = run_of(make_run(tmp_path, "natural"))
    assert not_learned([good]) == ""
    assert not_learned([dead, dead]) == "did not learn in 1 of 1 runs (constant output)"
    assert why_not_compared(("natural", [good]), ("scratch", [dead, lost])) == (
        "scratch did not learn in 2 of 2 runs (1 constant output, 1 diverged)"
    )


def test_a_test_set_of_one_class_does_not_stop_the_judgement(tmp_path):
    run = run_of(make_run(tmp_path))
    one = np.flatnonzero(run.labels == 0)
    object.__setattr__(run, "labels", run.labels[one])
    object.__setattr__(run, "probabilities", run.probabilities[one])
    object.__setattr__(run, "groups", None)
    assert judge(run) in ("learned", "constant output")
