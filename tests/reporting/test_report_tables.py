"""The numbers in the tables match scikit-learn, SciPy and statsmodels on the same files."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
from statsmodels.api import OLS, add_constant
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from made_runs import CLASSES, add_learning_curve, make_run, make_sweep
from stagetransfer.pages.formatting import LABELS
from stagetransfer.reporting.overview_section import places_by_state, source_seeds
from stagetransfer.reporting.pair_tables import pair_blocks
from stagetransfer.reporting.table2 import table_2
from stagetransfer.reporting.table3 import table_3
from stagetransfer.reporting.training_section import (
    images_table,
    learning_curves,
    learning_curves_block,
    stages_table,
)
from stagetransfer.runs.comparability import check_comparable
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.run import Replicate
from stagetransfer.runs.study import Study

CLOSE = pytest.approx


def study_of(outputs, count=300):
    runs, unfinished = read_runs(find_runs([outputs]))
    check_comparable(runs)
    return Study(runs, count), unfinished


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Make four conditions, three ratios and three seeds; texture lacks a seed at r = 1."""
    outputs = make_sweep(tmp_path_factory.mktemp("sweep"))
    (lacking,) = (outputs / "runs").glob("texture-r1-s2-*")
    (lacking / "metrics.json").unlink()
    study, unfinished = study_of(outputs)
    return outputs, study, unfinished


def tables(outputs, condition, ratio):
    """Return the predictions of each seed, read from the files."""
    found = sorted((outputs / "runs").glob(f"{condition}-r{ratio:g}-s*"))
    return [pd.read_csv(f / "predictions.csv") for f in found if (f / "metrics.json").exists()]


def sklearn_figures(table):
    y = table["label"].map(CLASSES.index)
    p = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    precision, recall, f1, _ = sk.precision_recall_fscore_support(y, p.argmax(1), average="macro")
    return {
        "accuracy": sk.accuracy_score(y, p.argmax(1)),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "cross_entropy": sk.log_loss(y, p),
        "auroc": sk.roc_auc_score(y, p, average="macro", multi_class="ovr"),
    }


def test_table_2_matches_scikit_learn(sweep):
    outputs, study, _ = sweep
    data = table_2(study, 1.0).data
    assert len(data) == 4 * 6
    for row in data.itertuples():
        values = [sklearn_figures(t)[row.figure] for t in tables(outputs, row.condition, 1.0)]
        assert row.seeds == len(values) == (2 if row.condition == "texture" else 3)
        assert row.mean == CLOSE(np.mean(values), abs=1e-9)
        assert row.sd == CLOSE(np.std(values, ddof=1), abs=1e-9)
        assert (row.min, row.max) == CLOSE((min(values), max(values)), abs=1e-9)
        assert 0 <= row.low <= row.mean <= row.high
        assert row.high <= 1 or row.figure == "cross_entropy"


def test_table_2_has_the_results_of_the_paper_at_r_1_only(sweep):
    _, study, _ = sweep
    assert not study.with_paper  # the data are others
    assert not any("(paper)" in row[0] for row in table_2(study, 1.0).rows)
    assert "paper" not in table_3(study)[0].columns
    study = copy.copy(study)
    study.with_paper = True
    assert table_3(study)[0].columns[-1] == "paper"
    wide = table_2(study, 1.0)
    rows = {row[0]: row for row in wide.rows}
    assert rows["two_stage (paper)"][2:] == ["0.9601", "0.9739", "0.9719", "0.9724", "–", "–"]
    assert not any("(paper)" in row[0] for row in table_2(study, 0.2).rows)
    assert table_2(study, 0.2).name == "table2-r0.2"
    assert "(36 groups)" in wide.notes[0]


def test_pairs_use_shared_seeds_and_match_statsmodels(sweep):
    outputs, study, _ = sweep
    pairs = {(pair.a, pair.b): pair for pair in study.pairs(1.0, ["accuracy", "f1"])}
    assert len(pairs) == 6
    for (a, b), pair in pairs.items():
        lacks = "texture" in (a, b)
        assert [of.seed for of in pair.seeds] == ([0, 1] if lacks else [0, 1, 2])
        assert [of.seed for of in pair.left_out] == ([2] if lacks else [])
        of_a, of_b = (tables(outputs, name, 1.0)[: len(pair.seeds)] for name in (a, b))
        for figure in ("accuracy", "f1"):
            means = [np.mean([sklearn_figures(t)[figure] for t in of]) for of in (of_a, of_b)]
            assert pair.metrics[figure].estimate == CLOSE(means[0] - means[1], abs=1e-9)
        for seed, x, y in zip(pair.seeds, of_a, of_b, strict=True):
            right = [(t["label"] == t["prediction"]).to_numpy() for t in (x, y)]
            counts = [[(right[0] == i) & (right[1] == j) for j in (True, False)] for i in (1, 0)]
            theirs = mcnemar(np.array(counts).sum(2), exact=True)
            ours = pair.mcnemar[seed]
            assert ours.p_value == CLOSE(theirs.pvalue, abs=1e-9)
            assert ours.only_a == counts[0][1].sum()
    raw = [pair.metrics["f1"].p_value for pair in pairs.values()]
    theirs = multipletests(raw, method="holm")[1]
    assert [pair.holm["f1"] for pair in pairs.values()] == CLOSE(theirs, abs=1e-9)


def test_pairs_name_the_seeds_that_are_left_out(sweep):
    _, study, _ = sweep
    _, bullets, table, others, tests = pair_blocks(study, 1.0)
    left_out = [line for line in bullets.lines if "left out: seed 2," in line]
    assert len(left_out) == 3
    assert all("texture" in line for line in left_out)
    assert [row[2] for row in table.rows].count("2") == 3
    assert len(others.columns) == 6
    assert len(tests.data) == 3 * 3 + 3 * 2
    assert set(table.data["figure"]) == set(LABELS)


def test_table_3_matches_scipy_and_statsmodels(sweep):
    outputs, study, _ = sweep
    data = table_3(study)[0].data
    assert len(data) == 2 * 4
    for row in data.itertuples():
        points = [
            (ratio, sklearn_figures(t)[row.figure])
            for ratio in (0.2, 0.6, 1.0)
            for t in tables(outputs, row.condition, ratio)
        ]
        r, y = np.array(points).T
        fit = stats.linregress(r, y)
        assert (row.slope, row.intercept) == CLOSE((fit.slope, fit.intercept), abs=1e-9)
        assert row.r_squared == CLOSE(fit.rvalue**2, abs=1e-9)
        textbook = OLS(y, add_constant(r)).fit().conf_int()[1]
        assert (row.textbook_low, row.textbook_high) == CLOSE(tuple(textbook), abs=1e-9)
        assert row.low < row.slope < row.high
        assert row.runs == len(y)


def test_slope_differences_use_shared_runs(sweep):
    outputs, study, _ = sweep
    data = table_3(study)[2].data
    row = data[(data.figure == "accuracy") & (data.a == "texture") & (data.b == "scratch")].iloc[0]
    slopes = []
    for name in ("texture", "scratch"):
        points = [
            (ratio, sklearn_figures(t)["accuracy"])
            for ratio in (0.2, 0.6, 1.0)
            for t in tables(outputs, name, ratio)[: 2 if ratio == 1 else 3]
        ]
        slopes.append(stats.linregress(*np.array(points).T).slope)
    assert row.difference == CLOSE(slopes[0] - slopes[1], abs=1e-9)
    assert row.runs_left_out == 1


def test_missing_runs_are_listed(sweep, tmp_path):
    _, study, unfinished = sweep
    place = ("texture", 1.0, Replicate(2))
    states = places_by_state(study, unfinished)
    assert (states["unfinished"], states["missing"]) == ({place}, set())
    assert places_by_state(study, [])["missing"] == {place}


def test_a_pair_without_a_common_seed_is_listed(tmp_path):
    make_run(tmp_path, "scratch", seed=0)
    make_run(tmp_path, "natural", seed=1)
    blocks = pair_blocks(study_of(tmp_path)[0], 1.0)
    assert list(blocks[1].lines) == ["natural - scratch: not compared: no seed in common"]


def test_images_per_class(tmp_path):
    make_run(tmp_path / "a", ratio=0.5)
    make_run(tmp_path / "a", ratio=1.0)
    table = images_table(study_of(tmp_path / "a")[0])
    assert [list(row) for row in table.rows] == [
        ["train, r = 0.5", "20", "40", "60", "120"],
        ["train, r = 1", "40", "80", "120", "240"],
        ["test", "30", "30", "30", "90"],
        ["test groups", "12", "12", "12", "36"],
    ]
    make_run(tmp_path / "b", by_class=False)
    row = images_table(study_of(tmp_path / "b")[0]).rows[0]
    assert list(row) == ["train, r = 1", *["not recorded"] * 3, "240"]


def test_each_distinct_stage_is_counted_once(tmp_path):
    make_sweep(tmp_path, ("natural", "two_stage"), (1.0,), (0, 1, 2))
    data = stages_table(study_of(tmp_path)[0]).data.set_index("stage")
    assert data.loc["1-natural", ["used", "distinct", "reused"]].tolist() == [6, 1, 4]
    assert data["seconds"].sum() == (1 + 1 + 6) * 100
    assert data["seconds_without_sharing"].sum() == (6 + 3 + 6) * 100


def test_the_axes_of_learning_curves_are_named_after_their_metrics(tmp_path):
    add_learning_curve(make_run(tmp_path, "natural"))
    study, _ = study_of(tmp_path)
    plot = learning_curves_block(study, 1.0, learning_curves(study))
    found = [axis.get_ylabel() for axis in plot.figure.axes]
    assert found == ["validation cross-entropy (nats)", "validation accuracy"]


@pytest.mark.parametrize(
    ("seeds", "text"),
    [((0, 0), "fixed at 0"), ((0, 1), "follows the seed"), ((1, 0), "mixed (0, 1)")],
)
def test_source_seed_is_stated(tmp_path, seeds, text):
    for seed, source_seed in enumerate(seeds):
        make_run(tmp_path, "natural", seed=seed, source_seed=source_seed)
    assert text in source_seeds(study_of(tmp_path)[0])


def test_few_groups_are_marked_in_every_table(tmp_path):
    make_sweep(tmp_path, ("scratch", "natural"), (0.5, 1.0), (0, 1), groups_per_class=9)
    study, _ = study_of(tmp_path, 100)
    for block in [table_2(study, 1.0), *pair_blocks(study, 1.0)[2:4], *table_3(study)]:
        if hasattr(block, "notes"):
            assert any("Not reliable" in note for note in block.notes), block.title
    (line,) = pair_blocks(study, 1.0)[1].lines
    assert line.endswith("too few groups to say whether this is a difference")
    assert "evidence" not in line


def test_the_order_of_rows_does_not_matter(tmp_path):
    make_run(tmp_path / "a", seed=0)
    shuffled = make_run(tmp_path / "a", seed=1)
    before = table_2(study_of(tmp_path / "a")[0], 1.0).data
    table = (shuffled / "predictions.csv").read_text().splitlines()
    (shuffled / "predictions.csv").write_text("\n".join([table[0], *reversed(table[1:])]) + "\n")
    pd.testing.assert_frame_equal(before, table_2(study_of(tmp_path / "a")[0], 1.0).data)


def test_agrees_with_metrics_json(sweep):
    _, study, _ = sweep
    for run in study.runs:
        recorded = json.loads((run.folder / "metrics.json").read_text())["test"]
        for figure in LABELS:
            assert study.values([run], figure)[0, 0] == CLOSE(recorded[figure], abs=1e-9)
