"""The tables of docs/study.md: differences, growth, summaries and claims, and the archives."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from conftest import REPOSITORY
from made_runs import make_run
from stagetransfer.api import load_runs

CELLS = [("AlexNet", "embedded"), ("EfficientNet-Lite0", "embedded")]
SKILLS = {"scratch": 1.6, "natural": 1.7, "texture": 1.4, "two_stage": 1.9}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for network, _ in CELLS:
        for condition, skill in SKILLS.items():
            for ratio in (0.2, 0.6, 1.0):
                # Without transfer, a run with few images is the worse for it.
                worse = 0.5 * (1 - ratio) if condition == "scratch" else 0.0
                for seed in (0, 1):
                    make_run(
                        folder / network, condition, ratio, seed, source_seed=seed,
                        skill=skill - worse + (0.1 if network == "AlexNet" else 0.0),
                    )  # fmt: skip
    return folder


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from benchmarks import study_tables

    return study_tables


def test_differences_and_growth(outputs, tables):
    rows = list(tables.differences(outputs, CELLS))
    assert len(rows) == 2 * (6 * 3 + 1)

    def accuracy(condition, ratio):
        found = [
            run.metrics["accuracy"]
            for run in load_runs(outputs / "AlexNet")
            if (run.condition, run.ratio) == (condition, ratio)
        ]
        return float(np.mean(found))

    gaps = {r: 100 * (accuracy("two_stage", r) - accuracy("scratch", r)) for r in (0.2, 1.0)}
    of = {
        row.r: row
        for row in rows
        if row.pair == ("two_stage", "scratch") and row.cell == "AlexNet, embedded"
    }
    assert of["0.2"].difference == pytest.approx(gaps[0.2])
    assert of["1"].difference == pytest.approx(gaps[1.0])
    assert of[tables.GROWTH].difference == pytest.approx(gaps[0.2] - gaps[1.0])
    assert of[tables.GROWTH].low < of[tables.GROWTH].difference < of[tables.GROWTH].high
    assert len(of[tables.GROWTH].runs.split()) == 8


def test_claims(outputs, tables):
    rows = list(tables.differences(outputs, CELLS))
    found = next(
        one
        for one in tables.summaries(rows)
        if (one.a, one.b, one.r) == ("texture", "scratch", "1")
    )
    of = [row for row in rows if row.pair == ("texture", "scratch") and row.r == "1"]
    effects, variances = (
        np.array([getattr(row, k) for row in of]) for k in ("difference", "variance")
    )
    assert found.mean == pytest.approx(combine_effects(effects, variances, "pm").mean_effect_re)
    weights = 1 / (variances + found.tau**2)
    plain = 1 / weights.sum()  # the squared standard error
    of_knapp_and_hartung = plain * (weights * (effects - found.mean) ** 2).sum() / (len(of) - 1)
    half = stats.t.ppf(0.975, len(of) - 1) * math.sqrt(max(plain, of_knapp_and_hartung))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))

    def row(a, b, r, mean, cell):
        ends = mean - 1, mean + 1, 0.25
        return tables.Difference(cell, a, b, r, mean, *ends, 0.01, 5, "", "")

    cells = [
        ", ".join(("EfficientNet-Lite0", target)) for target in ("embedded", "DTD", "COVID-CT")
    ]
    made = {
        ("two_stage", "scratch", "1"): 8.0,
        ("two_stage", "natural", "1"): 8.0,
        ("two_stage", "texture", "1"): 0.1,
        ("texture", "scratch", "1"): 8.0,
        ("two_stage", "scratch", tables.GROWTH): 8.0,
    }
    rows = [
        row(*of, mean + i / 10, cell) for of, mean in made.items() for i, cell in enumerate(cells)
    ]
    assert [verdict for _, _, verdict in tables.claims(rows)] == [
        "undecided", "contradicted", "supported", "not enough cells",
    ]  # fmt: skip


def test_a_shared_source_stage_counts_once(outputs, tables):
    number, hours = tables.trained(outputs, ["AlexNet"])
    runs = load_runs(outputs / "AlexNet")
    stages = [stage for run in runs for stage in run.stages]
    assert number == len(runs) == 24
    assert len({stage["key"] for stage in stages}) < len(stages)
    assert 0 < 3600 * hours < sum(stage["seconds"] for stage in stages)


def test_archives_hold_what_the_tables_need(outputs, tables, tmp_path):
    from benchmarks.study_archive import pack, unpack

    folder = outputs / "AlexNet"
    archive = tmp_path / "kept" / "AlexNet-seed0.tar.xz"
    runs = [run.folder for run in load_runs(folder)]
    pack(runs, archive)
    assert unpack(archive, tmp_path / "back" / "AlexNet") == len(runs) == 24
    assert unpack(archive, tmp_path / "back" / "AlexNet") == 0
    before, after = (list(tables.differences(at, CELLS[:1])) for at in (outputs, tmp_path / "back"))
    assert [row.runs for row in before] == [row.runs for row in after]
    for one, other in zip(before, after, strict=True):
        assert math.isclose(one.low, other.low)
        assert one.difference == other.difference
    content = archive.read_bytes()
    pack(runs, archive)
    assert archive.read_bytes() == content
