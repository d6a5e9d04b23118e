"""Runs are gathered alike for reports, boards and curves."""

import pytest

from made_runs import gather_runs, make_run, make_sweep
from stagetransfer.cli.options import choose_run
from stagetransfer.errors import UserError
from stagetransfer.reporting import make_report
from stagetransfer.reporting.tensorboard_board import write_board
from stagetransfer.runs.gather import gather_data_sets


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
    found = gather_runs([tmp_path], only=["seed=1", "transfer.reinitialise=[ fc8 ]", "ratio=1"])
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
    from stagetransfer.runs.tuning_depth import SEARCHED, _planned, tuned_depth

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
    # Without a finished run of the network, its blocks are unknown.
    for tune_from, depth in (("conv4", "conv4"), (None, "all")):
        config = {**planned.config, "transfer.tune_from": tune_from}
        assert _planned(replace(planned, config=config), []) == depth
    config = {**planned.config, "stage.target.transfer.search": "all"}
    assert _planned(replace(planned, config=config), [run]) == SEARCHED
    assert tuned_depth(replace(run, config=config)) == SEARCHED


def test_a_run_without_a_named_condition_has_that_of_its_chain(tmp_path):
    folder = make_run(tmp_path, "natural", finished=False)
    file = folder / "config.yaml"
    file.write_text(file.read_text().replace("condition: natural", "condition: null"))
    make_run(tmp_path, "natural", seed=1)
    assert [run.place for run in gather_runs([tmp_path]).unfinished] == [("natural", 1.0, 0)]


POLYPS = {"fingerprint": "beef", "classes": ("polyp", "wall"), "root": "/data/my polyps"}


@pytest.fixture
def mixed(tmp_path):
    """Four runs on the embedded target, one on polyps, one unfinished of each and of a third."""
    make_sweep(tmp_path, ("scratch", "natural"), (1.0,), (0, 1))
    make_run(tmp_path, "texture", finished=False)
    make_run(tmp_path, key="polyps", **POLYPS)
    make_run(tmp_path, "natural", finished=False, key="polyps", **POLYPS)
    make_run(tmp_path, "natural", finished=False, key="moles", root="/data/moles")
    return tmp_path


def test_each_data_set_is_gathered_by_itself(mixed):
    found, errors, left_out = gather_data_sets([mixed])
    assert not errors
    assert {one.data_set: len(one.runs) for one in found} == {"embedded": 4, "my-polyps": 1}
    (of_embedded,), (of_polyps,) = (one.unfinished for one in found)
    assert of_embedded.place == ("texture", 1.0, 0)
    assert of_polyps.folder.name == "natural-r1-s0-polyps"
    assert [line.partition(":")[0] for line in left_out] == ["natural-r1-s0-moles"]


def test_a_data_set_can_be_chosen_by_its_name(mixed):
    found = gather_runs([mixed], only=["data_set=my-polyps"])
    assert [run.name for run in found.runs] == ["scratch-r1-s0-polyps"]
    with pytest.raises(UserError, match=r"data_set=moles: no finished run .* embedded, my-polyps"):
        gather_runs([mixed], only=["data_set=moles"])


def test_data_sets_of_one_name_and_split_files_are_told_apart(tmp_path):
    for fingerprint in ("f00d", "beef"):
        make_run(tmp_path, key=fingerprint, fingerprint=fingerprint)
    for fold in range(3):
        make_run(tmp_path, fold=fold)
    names = [one.data_set for one in gather_data_sets([tmp_path])[0]]
    assert len({*names}) == 3
    assert "embedded-folds" in names
    assert sum(name.startswith("embedded-") for name in names) == 3


def test_a_report_and_a_board_for_each_data_set(mixed, caplog):
    index = make_report([mixed], count=20)
    page = (index / "report.md").read_text()
    for name, condition in (("embedded", "natural"), ("my-polyps", "scratch")):
        assert f"]({name}/report.html)" in page
        assert f"| {condition} |" in (index / name / "report.md").read_text()
    assert [path.name for path in write_board(mixed, count=20)] == ["embedded", "my-polyps"]
    assert (mixed / "board" / "my-polyps" / "scratch-r1-s0-polyps").is_dir()
    assert "left out: natural-r1-s0-moles" in caplog.text
    only = make_report([mixed], only=["data_set=my-polyps"], count=20)
    assert only == index / "my-polyps"


def test_runs_that_cannot_be_compared_do_not_hide_another_data_set(mixed, caplog):
    make_run(mixed, "scratch", seed=5, key="other", epochs=3, **POLYPS)
    received = make_run(mixed, "texture", seed=9, finished=False) / "config.yaml"
    received.write_text("{condition: a, ratio: 1, seed: 9, chain: 3}")
    index = make_report([mixed], count=20)
    assert "recipe.epochs (9 and 3)" in (index / "report.md").read_text()
    assert "left out: data set my-polyps: " in caplog.text
    with pytest.raises(UserError, match=r"recipe\.epochs"):
        make_report([mixed], only=["data_set=my-polyps"])


def test_one_finished_run_is_chosen_or_all_are_listed(mixed, capsys):
    scratch = sorted((mixed / "runs").glob("scratch-r1-s0-*"))
    with pytest.raises(
        UserError, match=r"2 finished runs.*--latest.*polyps .domain.target.root=/data/my polyps"
    ):
        choose_run(scratch, latest=False)
    assert choose_run(scratch, latest=True).name == "scratch-r1-s0-polyps"
    natural = sorted((mixed / "runs").glob("natural-r1-s0-*"))
    assert choose_run(natural, latest=False) in natural
    assert "natural-r1-s0-moles is unfinished" in capsys.readouterr().err
