"""A report never compares a run that did not learn, and marks its own figures."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from made_runs import add_learning_curve, gather_runs, make_run
from stagetransfer.reporting import make_report
from stagetransfer.reporting.depth_section import choose, summary
from stagetransfer.runs.study import Study

FAILED = "scratch did not learn in 3 of 3 runs (constant output)"
OF_CONDITION = FAILED.removeprefix("scratch ")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return the report of a scratch that failed at r = 1, as on a real data set."""
    outputs = tmp_path_factory.mktemp("failed")
    for ratio in (0.5, 1.0):
        for seed in (0, 1, 2):
            for condition in ("scratch", "natural", "two_stage"):
                dead = condition == "scratch" and ratio == 1
                folder = make_run(outputs, condition, ratio, seed, dead=dead)
                add_learning_curve(folder)
                shutil.copy(folder / "predictions.csv", folder / "validation.csv")
    return make_report([outputs], count=200)


def table(report, name):
    return pd.read_csv(report / "tables" / f"{name}.csv", keep_default_na=False)


OVER_RATIOS = ("slope_differences", "area_differences")


@pytest.mark.parametrize("name", ["pairs", "pairs-r0.5", "roc_pairs", *OVER_RATIOS])
def test_no_table_of_pairs_has_a_number_for_a_failed_condition(report, name):
    rows = table(report, name)
    failed = rows[(rows["a"] == "scratch") | (rows["b"] == "scratch")]
    assert len(failed)
    numbers = ["estimate"] if name == "roc_pairs" else ["difference"]
    numbers += ["low", "high", "p", "p_holm"]
    if name == "pairs-r0.5":
        assert (failed[numbers] != "").all(axis=None)
        return
    assert (failed[numbers] == "").all(axis=None)
    expected = FAILED.replace("3 of 3", "3 of 6") if name in OVER_RATIOS else FAILED
    assert set(failed["not_compared"]) == {expected}
    others = rows.drop(failed.index)
    assert (others[numbers] != "").all(axis=None)
    assert set(others["not_compared"]) == {""}


def test_no_sentence_and_no_row_of_the_page_compares_it(report):
    page = (report / "report.md").read_text().split("## Appendix")[0]
    lines = [line for line in page.splitlines() if "- scratch" in line]
    # per pair: accuracy, other metrics, two slopes, two areas and ROC, each as a sentence and in a
    # table, except for the other metrics, which have no sentence.
    assert len(lines) == 2 * (2 + 1 + 4 + 4 + 2)
    for line in lines:
        assert "not compared: scratch did not learn in 3 of" in line
        assert "evidence" not in line
        assert "p " not in line.replace("_stage", "")
    assert "two_stage - natural: +" in page
    assert "scratch" not in set(table(report, "mcnemar")["pair"].str.partition(" - ")[2])


def test_its_own_figures_are_shown_and_marked(report):
    page = (report / "report.md").read_text()
    main = page.split("## Test results")[1].split("## Pairs")[0]
    (row,) = (line for line in main.splitlines() if line.startswith("| scratch<br>"))
    assert f"scratch<br>{OF_CONDITION} | 3 | 0.333" in row
    figures = table(report, "table2")
    assert set(figures[figures["condition"] == "scratch"]["runs_not_learned"].map(int)) == {3}
    roc = table(report, "roc")
    assert set(roc[roc["condition"] == "scratch"]["not_learned"]) == {"0 1 2"}
    assert f"not fitted: {OF_CONDITION.replace('3 of 3', '3 of 6')}" in page
    runs = table(report, "runs").set_index(["condition", "r"])
    assert runs.loc[("scratch", 1), "did not learn"] == "0, 1, 2"
    assert f"* scratch, r = 1: {OF_CONDITION}" in page
    assert f"scratch<br>{OF_CONDITION} | 3 |" in page.split("## Calibration")[1]


def test_the_chosen_depth_is_not_compared_with_a_failed_scratch(tmp_path):
    for layer, skill in (("conv1", 1.5), ("conv4", 1.0)):
        validation = {"accuracy": skill / 2, "auroc": skill / 2}
        make_run(tmp_path, "natural", tune_from=layer, skill=skill, validation=validation)
    make_run(tmp_path, "scratch", dead=True)
    study = Study(gather_runs([tmp_path]).runs, 200)
    choices, _ = choose(study, ["natural conv1-fc8", "natural conv4-fc8"], "accuracy")
    rival, scratch = choices[1.0]
    assert scratch.refusal == FAILED.replace("3 of 3", "1 of 1")
    raw = rival.metrics["accuracy"].p_value
    assert rival.holm["accuracy"] == pytest.approx(min(1, 2 * raw))
    text = summary(study, "natural", choices, "accuracy")
    assert f"conv1-fc8 - scratch: not compared: {scratch.refusal}" in text
    make_report([tmp_path], count=50)
    chosen = pd.read_csv(tmp_path / "report" / "tables" / "depth-natural-chosen.csv")
    assert chosen[chosen["against"] == "scratch"]["p_holm"].isna().all()


def test_with_few_groups_no_sentence_says_evidence(tmp_path):
    for condition in ("scratch", "two_stage"):
        for ratio in (0.5, 1.0):
            for seed in (0, 1):
                make_run(tmp_path, condition, ratio, seed, groups_per_class=6)
    page = (make_report([tmp_path], count=200) / "report.md").read_text()
    page = page.partition("\n## Runs")[2]
    lines = [line for line in page.splitlines() if line.startswith("* ") and " - scratch: " in line]
    assert len(lines) == 1 + 2 + 2 + 3 + 1
    for line in lines:
        assert "evidence" not in line
        assert "too few groups to say whether" in line


def test_the_report_of_the_conditions_asked_for(report):
    out = report.parent / "asked"
    asked = ["natural", "two_stage", "kylberg"]
    page = (
        make_report([report.parent], out, conditions=asked, count=200) / "report.md"
    ).read_text()
    assert "scratch" not in page
    assert (
        "Holm's correction counts 3 pairs of the conditions asked for (natural, two_stage, " in page
    )
    assert "* kylberg: no finished run; it was asked for" in page
    (pair,) = (
        table(out, "pairs").query("figure == 'accuracy' and not_compared == ''").to_dict("records")
    )
    assert float(pair["p_holm"]) == pytest.approx(min(1, 3 * float(pair["p"])))
