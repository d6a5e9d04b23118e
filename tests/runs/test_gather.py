"""Runs are gathered alike for reports, boards and curves."""

import pytest

from made_runs import make_run
from stagetransfer.errors import UserError
from stagetransfer.runs.gather import gather_runs


def test_runs_are_sorted_and_named_by_depth(tmp_path):
    make_run(tmp_path, "natural", tune_from="fc6")
    make_run(tmp_path, "natural", tune_from="conv1", seed=1)
    make_run(tmp_path, "scratch", ratio=0.5)
    make_run(tmp_path, "scratch", ratio=0.2)
    going = make_run(tmp_path, "two_stage", finished=False)
    found = gather_runs([tmp_path])
    assert [run.place for run in found.runs] == [
        ("scratch", 0.2, 0),
        ("scratch", 0.5, 0),
        ("natural conv1-fc8", 1.0, 1),
        ("natural fc6-fc8", 1.0, 0),
    ]
    assert [run.folder for run in found.unfinished] == [going]
    assert found.outputs == tmp_path


def test_only_selects_finished_and_unfinished_runs(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, seed=seed)
        make_run(tmp_path, "natural", seed=seed, finished=False)
    found = gather_runs([tmp_path], only=["seed=1"])
    assert [run.seed for run in found.runs] == [1]
    assert [run.place for run in found.unfinished] == [("natural", 1.0, 1)]
    with pytest.raises(UserError, match=r"--only seed=7: no finished run"):
        gather_runs([tmp_path], only=["seed=7"])


def test_without_a_finished_run_there_is_nothing_to_gather(tmp_path):
    make_run(tmp_path, finished=False)
    with pytest.raises(UserError, match=f"{tmp_path}: none of 1 runs is finished"):
        gather_runs([tmp_path])


def test_a_planned_run_has_the_depth_that_its_settings_name(tmp_path):
    """Of "head", and of a classifier that only finished runs of the network know."""
    from dataclasses import replace

    from stagetransfer.runs.reader import find_runs, read_runs
    from stagetransfer.runs.tuning_depth import _planned

    make_run(tmp_path, "natural", seed=0)
    make_run(tmp_path, "natural", seed=1, finished=False)
    (run,), (planned,) = read_runs(find_runs([tmp_path]))
    last = {**run.stages[-1], "blocks": {"reinitialised": ["fc7", "fc8"]}}
    run = replace(run, stages=(*run.stages[:-1], last))
    for changes, depth in (
        ({"transfer.tune_from": "head"}, "fc8"),
        ({"transfer.tune_from": "conv4"}, "conv4-fc8"),
        ({"transfer.mode": "frozen", "transfer.reinitialise": ["head"]}, "fc8"),
        ({"transfer.mode": "frozen", "transfer.reinitialise": None}, "fc7-fc8"),
        ({}, "conv1-fc8"),
    ):
        config = {**planned.config, **changes}
        assert _planned(replace(planned, config=config), [run]) == depth
