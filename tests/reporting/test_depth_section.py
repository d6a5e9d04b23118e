"""Runs of one condition with several fine-tuning depths: separated, plotted and summarised."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from statsmodels.stats.multitest import multipletests

from made_runs import add_learning_curve, make_run
from stagetransfer.models.alexnet import LAYERS
from stagetransfer.reporting import make_report
from stagetransfer.reporting.depth_section import METRICS, choose, depth_sections, summary
from stagetransfer.reporting.limits import unlike_conditions
from stagetransfer.reporting.tensorboard_board import write_board
from stagetransfer.runs.comparability import check_comparable
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.study import Study
from stagetransfer.runs.tuning_depth import depth_names, name_depths, tuned_depth

# Skill on test data, half of it on validation data: best at conv4 for r = 0.2, at conv1 for r = 1.
SKILLS = {
    ("conv1", 0.2): 0.9, ("conv4", 0.2): 1.6, ("fc8", 0.2): 1.1, ("scratch", 0.2): 1.0,
    ("conv1", 1.0): 1.5, ("conv4", 1.0): 1.3, ("fc8", 1.0): 0.8, ("scratch", 1.0): 1.1,
}  # fmt: skip


def study_of(outputs, count=200):
    runs, unfinished = name_depths(*read_runs(find_runs([outputs])))
    check_comparable(runs)
    return Study(runs, count), unfinished


def make_layerwise(outputs, monitor="auroc", validated=True):
    """Make runs of three depths and scratch, two ratios and two seeds.

    The depth conv1 is set by name for one seed and by default for the other.
    """
    for (layer, ratio), skill in SKILLS.items():
        for seed in (0, 1):
            make_run(
                outputs,
                "scratch" if layer == "scratch" else "natural",
                ratio,
                seed,
                tune_from=None if layer == "scratch" or (layer, seed) == ("conv1", 1) else layer,
                monitor=monitor,
                skill=skill,
                validation=dict.fromkeys(METRICS, skill / 2) if validated else None,
            )
    return outputs


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return make_layerwise(tmp_path_factory.mktemp("layerwise"))


@pytest.fixture(scope="module")
def study(outputs):
    return study_of(outputs)[0]


NAMES = ["natural conv1-fc8", "natural conv4-fc8", "natural fc8"]


def test_depths_are_named_after_the_layers_of_the_network():
    names = depth_names(LAYERS)
    assert (names[0], names[-2:]) == ("conv1-fc8", ["fc7-fc8", "fc8"])
    assert depth_names(["stem", "layer1", "fc"]) == ["stem-fc", "layer1-fc", "fc"]


def test_each_depth_is_a_condition_and_depths_are_never_averaged(study):
    assert study.conditions == ["scratch", *NAMES]
    for name in study.conditions:
        assert [run.seed for run in study.at(name, 0.2)] == [0, 1]
        assert len({tuned_depth(run) for run in study.at(name)}) == 1
    assert unlike_conditions(study) == []


def test_depths_are_compared_with_the_deepest_and_it_with_other_conditions(study):
    assert set(study.condition_pairs()) == {
        ("natural conv1-fc8", "scratch"),
        ("natural conv4-fc8", "natural conv1-fc8"),
        ("natural fc8", "natural conv1-fc8"),
    }


def test_a_single_depth_does_not_change_the_name_of_the_condition(tmp_path):
    make_run(tmp_path, "natural", seed=0, tune_from="conv1")
    make_run(tmp_path, "natural", seed=1)
    study, _ = study_of(tmp_path)
    assert study.conditions == ["natural"]
    assert not any("How deep" in line for line in page(tmp_path))


def test_a_frozen_run_is_fine_tuned_from_its_first_reinitialised_layer(tmp_path):
    make_run(tmp_path, "natural", mode="frozen")
    make_run(tmp_path, "natural")
    make_run(tmp_path, "natural", seed=1, mode="frozen", finished=False)
    make_run(tmp_path, "natural", seed=1, tune_from="conv5", finished=False)
    study, unfinished = study_of(tmp_path)
    assert study.conditions == ["natural conv1-fc8", "natural fc8"]
    assert {run.place for run in unfinished} == {
        ("natural fc8", 1.0, 1),
        ("natural conv5-fc8", 1.0, 1),
    }


def test_runs_that_searched_their_depth_form_one_condition_and_are_not_chosen(tmp_path):
    for seed, found in ((0, "conv1"), (1, "conv4")):
        high = {"accuracy": 0.9, "auroc": 0.9}
        options = {"search": ("conv1", "conv4"), "validation": high}
        make_run(tmp_path, "natural", seed=seed, tune_from=found, **options)
    assert study_of(tmp_path)[0].conditions == ["natural"]
    for seed, layer in product((0, 1), ("conv1", "conv4")):
        low = {"accuracy": 0.5, "auroc": 0.5}
        make_run(tmp_path, "natural", seed=seed, tune_from=layer, validation=low)
    study, _ = study_of(tmp_path)
    assert study.conditions == [*NAMES[:2], "natural searched"]
    (section,) = depth_sections(study)
    assert "conv1-fc8 at r = 1" in section.blocks[0].text
    table = next(block for block in section.blocks if block.kind == "table")
    assert [row[0] for row in table.rows] == ["conv1-fc8", "conv4-fc8", "searched"]


def test_there_is_no_section_with_only_one_finished_depth(tmp_path):
    make_run(tmp_path, "natural")
    make_run(tmp_path, "natural", tune_from="conv4", finished=False)
    study, _ = study_of(tmp_path)
    assert study.conditions == [NAMES[0]]
    assert depth_sections(study) == []


def test_freezing_options_are_ignored_from_scratch(tmp_path):
    make_run(tmp_path, "scratch", 0.5, tune_from="conv4")
    make_run(tmp_path, "scratch", 1.0, mode="frozen")
    assert study_of(tmp_path)[0].conditions == ["scratch"]


def test_a_warning_if_two_conditions_have_different_depths(tmp_path):
    make_run(tmp_path, "natural", tune_from="conv4")
    make_run(tmp_path, "two_stage")
    (line,) = unlike_conditions(study_of(tmp_path)[0])
    assert line.endswith("tuned layers is conv4-fc8 and conv1-fc8")


def test_validation_data_choose_and_the_test_set_compares(study):
    choices, validated = choose(study, NAMES, "auroc")
    assert validated
    chosen = [(ratio, pairs[0].a) for ratio, pairs in choices.items()]
    assert chosen == [(0.2, NAMES[1]), (1.0, NAMES[0])]
    at_few, at_all = choices.values()
    assert [pair.b for pair in at_few] == [NAMES[0], "scratch"]
    assert [pair.b for pair in at_all] == [NAMES[1], "scratch"]  # the second best
    pairs = [*at_few, *at_all]
    for name in METRICS:
        raw = [pair.metrics[name].p_value for pair in pairs]
        theirs = multipletests(raw, method="holm")[1]
        assert [pair.holm[name] for pair in pairs] == pytest.approx(theirs)
    for pair in pairs:
        gaps = [
            recorded(x)["accuracy"] - recorded(y)["accuracy"]
            for ratio in {0.2, 1.0}
            for x, y in zip(study.at(pair.a, ratio), study.at(pair.b, ratio), strict=True)
            if pair in (at_few if ratio == 0.2 else at_all)
        ]
        assert pair.metrics["accuracy"].estimate == pytest.approx(np.mean(gaps), abs=1e-9)


def recorded(run):
    return json.loads((run.folder / "metrics.json").read_text())["test"]


def test_validation_data_choose_even_if_the_test_set_disagrees(tmp_path):
    for layer, skill, validation_accuracy in (("conv1", 2.0, 0.6), ("conv4", 0.5, 0.7)):
        make_run(
            tmp_path,
            "natural",
            tune_from=layer,
            skill=skill,
            validation={"accuracy": validation_accuracy, "auroc": None},
        )
    study, _ = study_of(tmp_path)
    assert choose(study, NAMES[:2], "accuracy")[0][1.0][0].a == NAMES[1]
    choices, validated = choose(study, NAMES[:2], "auroc")  # not defined on validation data
    assert (choices[1.0][0].a, validated) == (NAMES[0], False)


def test_the_summary_is_one_sentence_with_its_intervals(study):
    choices, _ = choose(study, NAMES, "auroc")
    text = summary(study, "natural", choices, "auroc")
    start = "Best fine-tuned blocks of natural, chosen by AUROC: conv4-fc8 at r = 0.2 (conv4-fc8 - "
    assert text.startswith(start)
    assert "; conv4-fc8 - scratch: +" in text
    assert "; conv1-fc8 at r = 1 (conv1-fc8 - conv4-fc8: +" in text
    assert "; conv1-fc8 - scratch: +" in text
    assert text.count("evidence of a difference") == 4
    assert text.endswith(").")


def page(outputs, **rest):
    return (make_report([outputs], count=100, **rest) / "report.md").read_text().splitlines()


def test_the_report_has_the_section_and_its_files(outputs):
    for folder in (outputs / "runs").iterdir():
        add_learning_curve(folder)
    lines = page(outputs)
    start = lines.index("## How deep to fine-tune: natural")
    text = "\n".join(lines[start : lines.index("## Less training data")])
    assert "blocks of natural, chosen by AUROC: conv4-fc8 at r = 0.2" in text
    assert "best AUROC on validation data (mean over seeds)" in text
    out = outputs / "report"
    for suffix in ("png", "svg"):
        assert (out / "plots" / f"depth-natural.{suffix}").is_file()
    with Image.open(out / "plots" / "depth-natural.png") as image:
        assert np.asarray(image.convert("L")).std() > 10
    table = pd.read_csv(out / "tables" / "depth-natural-auroc.csv")
    assert list(table["depth"].unique()) == ["conv1-fc8", "conv4-fc8", "fc8", "scratch"]
    for (name, ratio), row in table.set_index(["condition", "ratio"]).iterrows():
        values = [recorded(run)["auroc"] for run in study_of(outputs)[0].at(name, ratio)]
        assert row["mean"] == pytest.approx(np.mean(values), abs=1e-9)
        assert row["low"] <= row["mean"] <= row["high"]
    chosen = pd.read_csv(out / "tables" / "depth-natural-chosen.csv")
    assert set(chosen["against"]) == {*NAMES[:2], "scratch"}


def test_a_warning_if_the_test_set_chose_the_depth(tmp_path):
    text = "\n".join(page(make_layerwise(tmp_path, "cross_entropy", validated=False)))
    assert "blocks of natural, chosen by accuracy: conv4-fc8 at r = 0.2" in text
    assert "the test set itself, because not all runs record validation results" in text


def test_the_board_separates_depths(outputs):
    (board,) = write_board(outputs, count=20)
    assert {path.name for path in (board / "figure5").iterdir() if path.is_dir()} == {
        "scratch",
        *NAMES,
    }
