"""What the report says of the source stages, and of the limits that the trainings recorded."""

import pytest
import yaml

from made_runs import gather_runs, make_run
from stagetransfer.reporting.limits import further_limits, grave_limits
from stagetransfer.reporting.overview_section import overview_section, runs_table, source_seeds
from stagetransfer.reporting.sources_table import sources_table
from stagetransfer.runs.study import Study

NO_SKILL = {"verdict": "not above chance", "recall": 0.12, "low": 0.05, "high": 0.2, "chance": 0.1}


def study_of(outputs):
    return Study(gather_runs([outputs]).runs, 100)


def rows(study):
    (table,) = sources_table(study)
    return {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_each_source_stands_beside_its_condition_also_if_it_was_reused(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, "natural", seed=seed, health={}, source_health={"recall": 0.85})
        make_run(tmp_path, "two_stage", seed=seed, health={}, source_health=NO_SKILL)
        make_run(tmp_path, "texture", seed=seed)  # of an earlier version
    make_run(tmp_path, "scratch", health={})
    found = rows(study_of(tmp_path))
    assert set(found) == {
        ("natural", "1-natural"), ("texture", "1-texture"),
        ("two_stage", "1-natural"), ("two_stage", "2-texture"),
    }  # fmt: skip
    natural = found["natural", "1-natural"]
    assert natural["recall"] == "0.850\n[0.700, 0.900]"
    assert (natural["validation accuracy"], natural["chance"]) == ("0.850", "0.333")
    assert (natural["learned"], natural["reused"]) == ("yes", "1 of 2 runs")
    assert found["two_stage", "2-texture"]["learned"] == "not above chance"
    assert found["texture", "1-texture"]["learned"] == "not recorded"
    assert found["texture", "1-texture"]["chance"] == "not recorded"
    assert sum(
        "the source stage 1-natural did not learn in 1 of 1 training" in line
        for line in grave_limits(study_of(tmp_path))
    ) == 1  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "weights", "said"),
    [("embedded", None, True), ("folder", None, False), ("embedded", "w", False)],
)
def test_generated_sources_say_so(tmp_path, layout, weights, said):
    file = make_run(tmp_path, "natural", weights=weights, source_health={}) / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["domain"]["natural"] = {"layout": layout}
    file.write_text(yaml.safe_dump(config))
    (table,) = sources_table(study_of(tmp_path))
    assert ("generated images: natural" in " ".join(table.notes)) is said


def test_published_weights_say_so(tmp_path):
    make_run(tmp_path, "natural", weights="/w/bvlc.npy", health={}, source_health={})
    (row,) = rows(study_of(tmp_path)).values()
    assert row["learned"] == "published weights"


def test_from_scratch_alone_there_is_no_table_of_sources(tmp_path):
    make_run(tmp_path, "scratch")
    assert sources_table(study_of(tmp_path)) == []


def test_several_source_stages_have_a_mean_and_a_range(tmp_path):
    for seed, recall in ((0, 0.5), (1, 0.7), (2, 0.12)):
        health = {"recall": recall} if seed < 2 else NO_SKILL
        folder = make_run(tmp_path, "natural", seed=seed, source_seed=seed, source_health=health)
        file = folder / "metrics.json"
        file.write_text(file.read_text().replace("source-natural", f"source-natural-{seed}"))
    study = study_of(tmp_path)
    (row,) = rows(study).values()
    assert row["recall"] == "0.440\n0.120 to 0.700"
    assert row["learned"] == "2 of 3\nlearned, not above chance"
    assert (row["distinct stages"], row["source_seed"]) == ("3", "0, 1, 2")
    (table,) = sources_table(study)
    assert sorted(table.data["verdict"]) == ["learned", "learned", "not above chance"]
    assert "not recorded" not in set(table.data["recall"])


def test_each_remark_is_one_limit_with_the_stages_that_it_was_made_on(tmp_path):
    for seed in (0, 1):
        rose = f"The training loss rose to {seed + 3}.5 nats."
        make_run(tmp_path, "scratch", seed=seed, health={"remarks": ["Still improving."] * seed})
        remarks = {"remarks": [rose, "Still improving."]}
        make_run(tmp_path, "natural", seed=seed, health=remarks, source_health=remarks)
    improving, *rose = further_limits(study_of(tmp_path))
    assert improving == (
        "Still improving (scratch target in 1 of 2, natural target in 2 of 2, natural 1-natural in "
        "1 of 1 trainings)"
    )
    assert rose == [
        "The training loss rose to 3.5 nats (natural target in 2 of 2, natural 1-natural in 1 of "
        "1 trainings; the numbers differ)"
    ]


def test_what_a_search_chose_is_said(tmp_path):
    for seed, lr in ((0, 0.001), (1, 0.001), (2, 0.0003)):
        tried = [{"lr": x, "epochs": 24, "validation": 0.6} for x in (0.001, 0.0003)]
        search = {"monitor": "cross_entropy", "tried": tried, "lr": lr, "epochs": 24}
        make_run(tmp_path, "natural", seed=seed, search_rates=search)
        make_run(tmp_path, "scratch", seed=seed)
    chosen, without = further_limits(study_of(tmp_path))
    assert chosen == (
        "natural, r = 1: the learning rate and the number of epochs were chosen among 2 settings "
        "by validation cross-entropy: 0.001 and 24 (in 2 runs); 0.0003 and 24 (in 1 run)."
    )
    assert without == "no search of the learning rate and the number of epochs: scratch (3 runs)."


def test_crossed_source_seeds_in_the_overview(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, "scratch", seed=seed)
        for source in (0, 1):
            if (seed, source) != (1, 1):
                key = f"{seed}{source}"
                make_run(tmp_path, "natural", seed=seed, source_seed=source, key=key)
                make_run(tmp_path, "texture", seed=seed, source_seed=source, key=key)
    make_run(tmp_path, "texture", seed=1, source_seed=1, key="11")
    found = gather_runs([tmp_path])
    study = Study(found.runs, 100)
    text = source_seeds(study)
    assert "varies independently of the seed (0, 1)" in text
    assert "include the variance of source training" in text
    section = overview_section(study, found.unfinished)
    lines = [line for block in section.blocks if hasattr(block, "lines") for line in block.lines]
    assert "natural, r = 1, seed 1/1: no run" in lines
    runs = runs_table(study, found.unfinished)
    assert {row[0]: row[2] for row in runs.rows} == {
        "scratch": "0, 1", "natural": "0/0, 0/1, 1/0", "texture": "0/0, 0/1, 1/0, 1/1",
    }  # fmt: skip


def test_with_source_seeds_that_follow_the_intervals_include_source_training(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, "natural", seed=seed, source_seed=seed)
    assert "so the intervals include the variance of source training" in source_seeds(
        study_of(tmp_path)
    )


def test_the_csv_has_one_row_per_stage(tmp_path):
    make_run(tmp_path, "two_stage", health={}, source_health={})
    (table,) = sources_table(study_of(tmp_path))
    assert list(table.data["stage"]) == ["1-natural", "2-texture"]
