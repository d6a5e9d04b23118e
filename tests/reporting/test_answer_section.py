"""The first section of the report: the answer claims what the comparison shows, and no more."""

import re

import numpy as np
import pytest

from made_runs import gather_runs, make_run, make_sweep
from stagetransfer.reporting import make_report
from stagetransfer.reporting.answer_section import answer_section
from stagetransfer.reporting.table3 import table_3
from stagetransfer.runs.study import Study
from stagetransfer.statistics import needed


def study_of(outputs, **settings):
    return Study(gather_runs([outputs], **settings).runs, 300)


def texts(study):
    """Return the section's question, answer and the lines of its lists, by kind."""
    blocks = answer_section(study, []).blocks
    found = {block.kind: block.text for block in blocks if hasattr(block, "text")}
    return found | {block.kind: [*block.lines] for block in blocks if hasattr(block, "lines")}


def test_a_clear_difference_is_the_answer_and_nothing_is_left_to_settle(tmp_path):
    make_sweep(tmp_path, ("scratch",), (0.5, 1.0), skill=0.8)
    make_sweep(tmp_path, ("natural",), (0.5, 1.0), skill=3.0)
    study = study_of(tmp_path)
    found = texts(study)
    assert found["question"] == "Does natural reach a higher test accuracy than scratch?"
    at_1, at_half = found["answer"].split("With ")[1:]
    assert "all 240 training images" in at_1
    assert "90 test images of 36 patients" in at_1
    (pair,) = study.pairs(1.0, ["accuracy"])
    numbers = [float(x) for x in re.findall(r"[+-]?\d+\.\d", at_1.partition(", Holm")[0])]
    result = pair.metrics["accuracy"]
    assert numbers == pytest.approx(
        [100 * x for x in (result.estimate, result.low, result.high)], abs=0.05
    )
    for sentence in (at_1, at_half):
        assert "reached a higher test accuracy than scratch" in sentence
    assert "bullets" not in found
    assert "problems" not in found


def test_an_open_question_comes_with_what_would_settle_it(tmp_path):
    make_sweep(tmp_path, ("scratch",), (1.0,), (0, 1, 2, 3), skill=1.0)
    make_sweep(tmp_path, ("natural",), (1.0,), (0, 1, 2, 3), skill=1.05)
    study = study_of(tmp_path)
    found = texts(study)
    assert "did not differ detectably from scratch" in found["answer"]
    (pair,) = study.pairs(1.0, ["accuracy"])
    plan = needed(pair.metrics["accuracy"], study.num_groups)
    (line,) = found["bullets"]
    assert f"{100 * plan.detectable:.1f} points" in line
    for number in (plan.seeds, plan.groups):
        assert (f"{number} " if number else "more than 1,000") in line


def test_what_cannot_be_concluded_is_said_once(tmp_path):
    make_sweep(tmp_path, ("scratch", "natural", "texture"), (1.0,), groups_per_class=6)
    make_run(tmp_path, "two_stage", dead=True, groups_per_class=6)
    found = texts(study_of(tmp_path))
    assert "natural (" in found["answer"]
    why = "because a class has too few test patients"
    assert f"could not be compared reliably with scratch, {why}" in found["answer"]
    assert "was not compared with scratch (two_stage did not learn in 1 of 1" in found["answer"]
    assert sum("CON (6)" in line for line in found["problems"]) == 1
    assert any("two_stage, r = 1: did not learn" in line for line in found["problems"])


def test_with_one_condition_its_accuracy_is_the_answer(tmp_path):
    make_run(tmp_path)
    study = study_of(tmp_path)
    shown = f"{study.interval('scratch', 1.0, 'accuracy').estimate:.3f}"
    assert f"scratch reached {shown}, 95 % CI [" in texts(study)["answer"]


def test_no_interval_leaves_what_is_possible(tmp_path):
    """Two seeds that contradict each other have intervals of several hundred points."""
    for seed, (a, b) in enumerate([(0.8, 3.0), (3.0, 0.8)]):
        for ratio in (0.5, 1.0):
            make_run(tmp_path, "scratch", ratio, seed, skill=a)
            make_run(tmp_path, "natural", ratio, seed, skill=b)
    study = study_of(tmp_path)
    (pair,) = study.pairs(1.0, ["accuracy"])
    result = pair.metrics["accuracy"]
    assert (result.low, result.high) == (-1, 1)
    page = (make_report([tmp_path], count=300) / "report.md").read_text()
    assert "the data do not suffice for an interval" in page
    slopes = table_3(study)[0].data
    of_accuracy = slopes[slopes["figure"] == "accuracy"][["low", "high"]].to_numpy()
    assert np.isfinite(of_accuracy).all()
    assert np.abs(of_accuracy).max() <= 2 + 1e-9  # 1 / (1 - 0.5)


def test_the_page_can_be_read_aloud(tmp_path):
    make_sweep(tmp_path, ("scratch", "natural"), (0.5, 1.0), (0, 1))
    page = (make_report([tmp_path], count=50) / "report.html").read_text()
    for landmark in ("<header>", '<nav aria-label="Sections">', "<main>", 'lang="en"'):
        assert page.count(landmark) == 1
    assert len(re.findall("<h1>", page)) == 1
    for row in re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL):
        assert row.count("<tr>") == row.count('<th scope="row"')
    (alt,) = re.findall(r'alt="(Figure 5[^"]*)"', page)
    assert alt.endswith(re.search(r'<p class="answer">(.*)</p>', page)[1])
