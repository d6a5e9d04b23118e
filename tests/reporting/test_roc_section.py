"""The ROC section of the report: it matches scikit-learn, compares pairs and names omissions."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from made_runs import CLASSES, make_run, make_sweep
from stagetransfer.pages.blocks import Bullets, Plot, Table, Text
from stagetransfer.reporting.roc_section import roc_section
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.study import Study


def section_of(outputs, count=200):
    study = Study(read_runs(find_runs([outputs]))[0], count)
    section = roc_section(study)
    return section, {block.name: block for block in section.blocks if isinstance(block, Table)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("sweep")
    return make_sweep(outputs, ("scratch", "two_stage"), ratios=(0.2, 1.0), seeds=(0, 1))


def expected(outputs, condition, name):
    """Return means over seeds at r = 1: area, McClish's area up to 0.1, sensitivity at 0.1."""
    found = []
    for folder in sorted(outputs.glob(f"runs/{condition}-r1-s*")):
        images = pd.read_csv(folder / "predictions.csv")
        truth, scores = images["label"] == name, images[f"p_{name}"]
        x, y, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
        area = metrics.roc_auc_score(truth, scores)
        part = metrics.roc_auc_score(truth, scores, max_fpr=0.1)
        found.append((area, part, y[x <= 0.1 + 1e-9].max()))
    return np.mean(found, axis=0)


def test_areas_and_operating_points_match_scikit_learn(sweep):
    section, tables = section_of(sweep)
    assert section.title == "ROC curves at r = 1"
    assert [tuple(row[:2]) for row in tables["roc"].rows] == [
        (condition, name) for condition in ("scratch", "two_stage") for name in CLASSES
    ]
    assert tables["roc"].columns[2:] == [
        "AUROC", "AUROC (DeLong)", "partial area to 0.1 (McClish)",
        "sensitivity at 0.05", "sensitivity at 0.1", "sensitivity at 0.2",
    ]  # fmt: skip
    for condition, name, area, by_delong, part, _, sensitivity, _ in tables["roc"].rows:
        theirs = expected(
            sweep, condition, name
        )  # 6 of the 60 negatives are 0.1, so the curve has a point there
        cells = [cell.split("\n") for cell in (area, by_delong, part, sensitivity)]
        shown = [float(cell[0]) for cell in cells]
        assert shown == pytest.approx([theirs[0], *theirs], abs=0.00051)
        assert all(cell[1].startswith("[") or float(cell[0]) == 1 for cell in cells)
    assert set(tables["roc"].data["ratio"]) == {1.0}


def test_conditions_are_compared_in_area_and_at_operating_points(sweep):
    _, tables = section_of(sweep)
    assert [row[0] for row in tables["roc_pairs"].rows] == ["two_stage - scratch"] * 3
    for _, name, area, by_delong, part, _, sensitivity, _ in tables["roc_pairs"].rows:
        gaps = expected(sweep, "two_stage", name) - expected(sweep, "scratch", name)
        for cell, gap in zip((area, part, sensitivity), gaps, strict=True):
            shown, between, p_value = cell.split("\n")
            assert float(shown) == pytest.approx(100 * gap, abs=0.051)
            assert between.startswith("[")
            assert p_value.startswith("p ")
        assert float(by_delong.split("\n")[0]) == pytest.approx(100 * gaps[0], abs=0.051)


def test_the_plot_and_the_sentences(sweep):
    section, _ = section_of(sweep)
    (plot,) = (block for block in section.blocks if isinstance(block, Plot))
    assert len(plot.figure.axes) == 3
    (bullets,) = (block for block in section.blocks if isinstance(block, Bullets))
    assert len(bullets.lines) == 3
    assert bullets.lines[0].startswith("r = 1, AUROC of CON: two_stage - scratch: ")


def test_two_classes_have_one_curve(tmp_path):
    make_run(tmp_path, classes=("healthy", "nodule"))
    _, tables = section_of(tmp_path)
    assert [row[1] for row in tables["roc"].rows] == ["nodule"]
    assert "roc_pairs" not in tables


def test_delong_needs_two_patients_on_each_side_and_not_in_each_class(tmp_path):
    folder = make_run(tmp_path)
    table = pd.read_csv(folder / "predictions.csv")
    first, others = CLASSES[0], CLASSES[1:]
    for other in others:  # one patient each, so that the side of the other classes has two
        table.loc[table["label"] == other, "group"] = f"patient of {other}"
    table.to_csv(folder / "predictions.csv", index=False)
    rows = section_of(tmp_path)[1]["roc"].data.query("method == 'DeLong'").set_index("class")
    assert np.isfinite(rows.loc[first, ["low", "high"]].astype(float)).all()
    assert rows.loc[list(others), ["low", "high"]].isna().all(axis=None)


def test_with_many_classes_omissions_are_stated(tmp_path):
    classes = tuple(f"c{i:02}" for i in range(22))
    for condition in ("scratch", "natural", "texture", "two_stage"):
        make_run(tmp_path, condition, classes=classes, per_class=3, groups_per_class=3)
    section, tables = section_of(tmp_path, 20)
    assert len(tables["roc"].rows) == 60
    assert "The first 60 of 80 rows; all are in the CSV file." in tables["roc"].notes
    assert len(tables["roc"].data) == 80 * 6
    (bullets,) = (block for block in section.blocks if isinstance(block, Bullets))
    assert list(bullets.lines) == ["shown are only the 20 classes with the fewest test images"]


def test_a_line_of_text_if_there_are_too_few_images(tmp_path):
    run = make_run(tmp_path, per_class=1, groups_per_class=1)
    assert json.loads((run / "metrics.json").read_text())["num_test"] == 3
    section, tables = section_of(tmp_path, 20)
    assert not tables
    assert isinstance(section.blocks[0], Text)
    assert "No ROC curve" in section.blocks[0].text
