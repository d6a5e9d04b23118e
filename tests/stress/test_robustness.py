"""Figures of a stress test against figures by hand; everything is paired by seed and patient."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, recall_score

from made_runs import CLASSES, make_run
from plain_ece import plain_ece
from stagetransfer.runs.reader import read_runs
from stagetransfer.runs.study import Study
from stagetransfer.stress.corrupted_tests import every_test
from stagetransfer.stress.corruptions import CORRUPTIONS, Scale
from stagetransfer.stress.robustness import ALL, Robustness

TESTS = every_test(Scale())

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("made")
    folders = [
        make_run(outputs, condition, seed=seed)
        for condition in ("scratch", "natural")
        for seed in SEEDS
    ]
    runs, _ = read_runs(folders)
    study, probabilities = Study(runs, 200), {}
    random = np.random.default_rng(0)
    for run in runs:
        noise = random.dirichlet(np.ones(len(CLASSES)), (len(TESTS), len(run.ids)))
        share = np.array([0, *(0.15 * severity for _, severity in TESTS[1:])])[:, None, None]
        probabilities[run.name] = (1 - share) * run.probabilities + share * noise
    return study, probabilities, Robustness(study, probabilities, Scale())


def errors(made, condition):
    """The share of errors (seeds, 13, 6), by hand."""
    study, probabilities, robust = made
    found = [
        (probabilities[run.name].argmax(2) != run.labels).mean(1) for run in study.at(condition)
    ]
    return np.stack(found)[:, robust.numbers]


def test_the_table_has_the_metrics_of_each_test(made):
    study, probabilities, robust = made
    table = robust.table()
    assert len(table) == len(study.runs) * len(CORRUPTIONS) * 6
    assert table.loc[table.severity == 0, "amount"].isna().all()
    for run in study.runs:
        rows = table[(table.run == run.name) & (table.corruption == "offset")]
        number = robust.numbers[[kind.name for kind in CORRUPTIONS].index("offset")]
        for row, p in zip(rows.itertuples(), probabilities[run.name][number], strict=True):
            assert row.accuracy == pytest.approx((p.argmax(1) == run.labels).mean())
            recall = recall_score(run.labels, p.argmax(1), average="macro")
            assert row.recall == pytest.approx(recall)
            assert row.cross_entropy == pytest.approx(log_loss(run.labels, p))
            assert row.ece == pytest.approx(plain_ece(run.labels, p))
    assert set(table[table.corruption == "offset"].unit) == {"% of the range"}


def test_only_the_metrics_that_are_read_stay_in_memory(made):
    study, _, robust = made
    rows = len(robust._values[study.runs[0].name]["accuracy"])
    for values in robust._values.values():
        assert {*values} == {"accuracy", "recall", "cross_entropy", "ece"}
        assert all(one.base is None and one.shape == (rows, len(TESTS)) for one in values.values())


def test_intervals_and_paired_differences(made):
    study, _, robust = made
    own, other = errors(made, "natural"), errors(made, "scratch")
    found = robust.interval("natural", 1.0, "accuracy", robust.weights("motion")["4"])
    kind = [one.name for one in CORRUPTIONS].index("motion")
    assert found.estimate == pytest.approx(1 - own[:, kind, 4].mean())
    assert found.low < found.estimate < found.high
    pair = study.match("natural", "scratch", 1.0)
    for name, expected in (
        ("5", (other - own)[:, :, 5].mean()),
        ("1-5", (other - own)[:, :, 1:].mean()),
        ("5-0", (other - own)[:, :, 5].mean() - (other - own)[:, :, 0].mean()),
    ):
        gap = robust.difference(pair, robust.weights(ALL)[name])
        assert gap.estimate == pytest.approx(expected)
        assert gap.low < gap.estimate < gap.high


def test_corruption_error_relative_to_scratch(made):
    study, _, robust = made
    own, other = errors(made, "natural"), errors(made, "scratch")
    pair = study.match("natural", "scratch", 1.0)
    ce = own[:, :, 1:].sum((0, 2)) / other[:, :, 1:].sum((0, 2))
    mean = robust.relative_error(pair, ALL)
    assert mean.estimate == pytest.approx(ce.mean())
    assert mean.low < mean.estimate < mean.high
    for kind, expected in zip(CORRUPTIONS, ce, strict=True):
        assert robust.relative_error(pair, kind.name).estimate == pytest.approx(expected)


def test_equal_conditions_do_not_differ_in_any_resample(made):
    study, probabilities, _ = made
    by_seed = {run.seed: probabilities[run.name] for run in study.at("scratch")}
    equal = Robustness(study, {run.name: by_seed[run.seed] for run in study.runs}, Scale())
    pair = study.match("natural", "scratch", 1.0)
    gap = equal.difference(pair, equal.weights(ALL)["3"])
    ratio = equal.relative_error(pair, ALL)
    assert (gap.estimate, ratio.estimate) == (0, 1)
    assert gap.why
    assert np.isnan([gap.low, ratio.low]).all()
