"""The report shows the numbers of a stress test that lies beside the runs, and of no other."""

import pandas as pd
import pytest

from made_runs import gather_runs, make_sweep
from stagetransfer.errors import UserError
from stagetransfer.files import csv_text
from stagetransfer.pages.blocks import Table
from stagetransfer.reporting.stress_section import FOLDER, stress_sections
from stagetransfer.runs.study import Study

FIGURES = [*"012345", "1-5"]


def rows(names, values, figures=FIGURES):
    """Rows as in the tables of a stress test: of each figure an estimate with its interval."""
    return [
        dict(zip(names, of, strict=True)) | {"column": column, "estimate": x, "low": x - 0.1,
                                             "high": x + 0.1}
        for number, of in enumerate(values)
        for place, column in enumerate(figures)
        for x in [0.9 - 0.05 * place - 0.01 * number]
    ]  # fmt: skip


@pytest.fixture
def tested(tmp_path):
    """A study, and the files of its stress test; tests/stress compares them with real ones."""
    outputs = make_sweep(tmp_path, ("scratch", "two_stage"), (1.0,), (0, 1))
    study = Study(gather_runs([outputs]).runs, 50)
    means = [(name, metric) for name in study.conditions for metric in ("accuracy", "ece")]
    pairs = [(pair, kind) for pair in ("two_stage - scratch", "a - b") for kind in ("all", "JPEG")]
    folder = outputs / FOLDER
    (folder / "tables").mkdir(parents=True)
    for name, table in {
        "stress": [{"run": run.name, "ratio": run.ratio} for run in study.runs],
        "tables/severities": rows(["condition", "metric"], [*means, ("other", "accuracy")]),
        "tables/differences": rows(["pair", "corruption"], pairs, [*FIGURES, "5-0"]),
        "tables/relative_error": rows(["corruption"], [("all",), ("JPEG",)], ["two_stage"]),
    }.items():
        (folder / f"{name}.csv").write_text(csv_text(pd.DataFrame(table)))
    return study, outputs, folder


def test_the_section_has_the_numbers_of_the_stress_test(tested):
    study, outputs, _ = tested
    (section,) = stress_sections(study, outputs, "")
    text, means, gaps, errors = section.blocks
    assert "r = 1" in text.text
    assert [row[:2] for row in means.rows] == [
        [name, metric] for name in ("scratch", "two_stage") for metric in ("accuracy", "ece")
    ]
    assert means.columns == ["condition", "metric", *FIGURES]
    assert means.rows[1][3] == "0.840\n[0.740, 0.940]"
    (gap,) = gaps.rows
    assert gaps.columns == ["pair", *FIGURES, "5-0"]
    assert gap[:2] == ["two_stage - scratch", "+90.0\n[80.0, 100.0]"]
    assert errors.rows == [["all", "0.900\n[0.800, 1.000]"]]


def test_runs_without_a_test_are_named(tested):
    study, outputs, folder = tested
    table = pd.read_csv(folder / "stress.csv")
    missing = study.runs[0].name
    (folder / "stress.csv").write_text(csv_text(table[table.run != missing]))
    (section,) = stress_sections(study, outputs, "")
    assert missing in section.blocks[1].lines[0]
    table["run"] = "other-" + table["run"]
    (folder / "stress.csv").write_text(csv_text(table))
    (section,) = stress_sections(study, outputs, "")
    (bullets,) = section.blocks  # no number of other runs
    assert len(bullets.lines) == 2


def test_a_report_of_one_condition_has_no_empty_tables(tested):
    study, outputs, _ = tested
    alone = Study(study.at("scratch"), 50)
    (section,) = stress_sections(alone, outputs, "")
    assert [block.name for block in section.blocks if isinstance(block, Table)] == [
        "stress_severities"
    ]


def test_no_test_has_no_section_and_a_damaged_one_is_named(tested):
    study, outputs, folder = tested
    assert stress_sections(study, outputs, "other data") == []
    (folder / "tables" / "severities.csv").write_text("condition,column\na,1\n")
    with pytest.raises(UserError, match=r"severities\.csv"):
        stress_sections(study, outputs, "")
    (folder / "stress.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"stress\.csv"):
        stress_sections(study, outputs, "")
