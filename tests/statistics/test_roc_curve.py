import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from stagetransfer.statistics import (
    difference,
    interval,
    mcclish,
    resample,
    resampled_metrics,
    resampled_roc,
    roc,
)


def images(seed, n=40, ties=True):
    """Truth (n,) with both sides, scores and integer weights."""
    rng = np.random.default_rng(seed)
    positive = np.r_[True, False, rng.random(n - 2) < 0.4]
    scores = rng.normal(size=n) + positive
    return positive, np.round(scores, 1) if ties else scores, rng.integers(1, 5, n)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(4, 80),
    ties=st.booleans(),
    up_to=st.floats(0.01, 0.99),
    weighted=st.booleans(),
)
def test_points_and_areas_agree_with_scikit_learn(seed, n, ties, up_to, weighted):
    positive, scores, weights = images(seed, n, ties)
    curve = roc(positive, scores, weights[None] if weighted else None)
    sample = {"sample_weight": weights if weighted else None}
    x, y, thresholds = metrics.roc_curve(positive, scores, drop_intermediate=False, **sample)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    np.testing.assert_allclose(curve.false_positives[0], x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curve.sensitivity[0], y, rtol=0, atol=1e-12)
    whole = metrics.roc_auc_score(positive, scores, **sample)
    assert curve.area()[0] == pytest.approx(whole, rel=0, abs=1e-12)
    part = metrics.roc_auc_score(positive, scores, max_fpr=up_to, **sample)
    assert mcclish(curve.area(up_to), up_to)[0] == pytest.approx(part, rel=0, abs=1e-12)


def test_sensitivity_on_a_curve_drawn_by_hand():
    """Negatives at 1, 3, 3, 4; positives at 2, 3, 5, 6: up to 1/2, right to 1/4, slanted to
    (3/4, 3/4), up to 1, right to 1."""
    curve = roc([0, 0, 0, 0, 1, 1, 1, 1], [1, 3, 3, 4, 2, 3, 5, 6])
    rates = [0, 0.1, 0.25, 0.5, 0.75 - 1e-6, 0.75, 0.9, 1]
    expected = [0.5, 0.5, 0.5, 0.625, 0.75, 1, 1, 1]
    assert curve.sensitivity_at(rates)[0] == pytest.approx(expected, abs=1e-5)
    assert curve.area(0.5)[0] == pytest.approx(0.25 * 0.5 + 0.25 * (0.5 + 0.625) / 2)


def test_a_rate_matches_its_point_despite_rounding():
    """0.1 and 0.2 of weight lie above: their sum is not 0.3, but the step up is at 0.3."""
    scores, weights = [9, 8, 7, 6, 5], [0.5, 0.1, 0.2, 0.5, 0.7]
    curve = roc([1, 0, 0, 1, 0], scores, [weights])
    assert curve.false_positives[0, 3] != 0.3
    assert curve.sensitivity_at([0.3])[0] == pytest.approx(1)


def test_each_row_is_its_own_curve_also_in_blocks(monkeypatch):
    positive, scores, _ = images(1, 30)
    drawn = resample(positive.astype(int), np.arange(30) % 12, "ab", seeds=1, count=9)

    def read(curve):
        return curve.sensitivity_at([0.1, 0.3])

    whole = resampled_roc(drawn, positive, scores, read)
    for row, weights in enumerate(drawn.weights):
        alone = roc(positive, scores, weights[None, drawn.groups])
        np.testing.assert_allclose(whole[row, 0], read(alone)[0], atol=1e-12)
    module = sys.modules["stagetransfer.statistics.roc_curve"]
    monkeypatch.setattr(module, "BLOCK", 100)
    np.testing.assert_array_equal(resampled_roc(drawn, positive, scores, read), whole)


def test_the_resampled_area_equals_that_of_the_report():
    rng = np.random.default_rng(4)
    labels, groups = rng.integers(0, 3, 120), rng.integers(0, 40, 120)
    p = rng.dirichlet([1, 1, 1], (2, 120))
    drawn = resample(labels, groups, "abc", seeds=2, count=50)
    expected = resampled_metrics(drawn, p)["auroc:b"]
    found = resampled_roc(drawn, labels == 1, p[:, :, 1], lambda curve: curve.area()[:, None])
    np.testing.assert_allclose(found[:, :, 0], expected, atol=1e-12)


def test_the_interval_at_an_operating_point_contains_the_true_value():
    """Normal scores one apart: at the false-positive rate 0.2 the sensitivity is known."""
    rng = np.random.default_rng(0)
    truth = 0.5628  # 1 - Phi(Phi^-1(0.8) - 1)
    positive = np.repeat([0, 1], 80)
    held = 0
    for _ in range(100):
        drawn = resample(positive, None, "ab", seeds=1, count=200)
        scores = rng.normal(size=160) + positive
        values = resampled_roc(drawn, positive, scores, lambda c: c.sensitivity_at([0.2]))
        found = interval(drawn, values[:, :, 0])
        held += found.low <= truth <= found.high
    assert 0.90 <= held / 100 <= 0.99


def test_the_difference_at_an_operating_point_is_paired():
    rng = np.random.default_rng(1)
    positive = np.repeat([0, 1], 100)
    hard = rng.normal(size=200)
    a, b = hard + 1.4 * positive, hard + 1.0 * positive + 0.02 * rng.normal(size=200)
    drawn = resample(positive, None, "ab", seeds=1, count=999)
    x, y = (resampled_roc(drawn, positive, s, lambda c: c.sensitivity_at([0.2])) for s in (a, b))
    found = difference(drawn, x[:, :, 0], y[:, :, 0])
    alone = interval(drawn, x[:, :, 0])
    assert found.low > 0
    assert found.high - found.low < 0.9 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("positive", "scores", "message"),
    [
        ([1, 1], [0, 1], "a positive and a negative"),
        ([1, 0], [0, 1, 2], r"must be \(n,\)"),
        ([1, 0], [np.nan, 1], "finite"),
    ],
)
def test_bad_arrays(positive, scores, message):
    with pytest.raises(ValueError, match=message):
        roc(positive, scores)


def test_bad_partial_area():
    with pytest.raises(ValueError, match="up_to"):
        roc([1, 0], [1, 0]).area(0)
