import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from stagetransfer.statistics import (
    delong,
    delong_covariance,
    delong_difference,
    interval,
    resample,
    resampled_roc,
)
from stagetransfer.statistics.intervals import NO_SPREAD

# Of the 49 patients of DeLong et al. 1988 the 43 with all tests: albumin, total protein, K-G score,
# outcome. The data as in the SAS/STAT User's Guide, PROC LOGISTIC, example "Comparing Receiver
# Operating Characteristic Curves"; what is expected of them below is computed, not quoted.
PATIENTS = """
    3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0
    1.6 5.6 5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1
    4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1
    3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1
    3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
    3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
    3.6 6.6 5 1
"""
OVARIAN = np.array(PATIENTS.split(), float).reshape(-1, 4)
OUTCOME = OVARIAN[:, 3] == 1
ALBUMIN, PROTEIN, K_G = OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2]


def plain(positive, scores):
    """Areas and covariance by their definition, pair by pair."""
    x, y = scores[:, positive], scores[:, ~positive]
    psi = (x[:, :, None] > y[:, None]) + 0.5 * (x[:, :, None] == y[:, None])
    area, v10, v01 = psi.mean((1, 2)), psi.mean(2), psi.mean(1)
    k, m, n = psi.shape
    covariance = np.empty((k, k))
    for a in range(k):
        for b in range(k):
            s10 = sum((v10[a, i] - area[a]) * (v10[b, i] - area[b]) for i in range(m)) / (m - 1)
            s01 = sum((v01[a, j] - area[a]) * (v01[b, j] - area[b]) for j in range(n)) / (n - 1)
            covariance[a, b] = s10 / m + s01 / n
    return area, covariance


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(4, 40), k=st.integers(1, 3), ties=st.booleans())
def test_areas_and_covariance_are_those_of_the_definition(seed, n, k, ties):
    rng = np.random.default_rng(seed)
    positive = np.r_[True, True, False, False, rng.random(n - 4) < 0.5]
    scores = rng.normal(size=(k, n)) + positive
    scores = np.round(scores) if ties else scores
    areas, covariance = delong_covariance(positive, scores)
    expected_areas, expected = plain(positive, scores)
    np.testing.assert_allclose(areas, expected_areas, rtol=0, atol=1e-12)
    np.testing.assert_allclose(areas, [roc_auc_score(positive, s) for s in scores], atol=1e-12)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-12)


def jackknife(contrast):
    """Of a mean of AUCs, weighted by the contrast: leaving out each patient in turn.

    AUC is a two-sample U-statistic, whose jackknife (Arvesen 1969, Ann. Math. Stat. 40) is DeLong's
    variance: an independent way to the same number, by scikit-learn's areas alone.
    """

    def area(kept):
        areas = [roc_auc_score(OUTCOME[kept], scores[kept]) for scores in (ALBUMIN, PROTEIN, K_G)]
        return float(np.dot(contrast, areas))

    whole = area(np.full(len(OUTCOME), True))
    variance = 0.0
    for side in (OUTCOME, ~OUTCOME):
        n = side.sum()
        without = [area(np.arange(len(OUTCOME)) != i) for i in np.nonzero(side)[0]]
        variance += (n - 1) ** 2 / n * np.var(without, ddof=1)
    return whole, np.sqrt(variance)


@pytest.mark.parametrize("contrast", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_one_medical_test_of_the_original_data(contrast):
    area, error = jackknife(contrast)
    found = delong(OUTCOME, np.dot(contrast, [ALBUMIN, PROTEIN, K_G]))
    half = stats.norm.ppf(0.975) * error
    p_value = 2 * stats.norm.sf(abs(area - 0.5) / error)
    expected = (area, area - half, area + half, p_value)
    assert (found.estimate, found.low, found.high, found.p_value) == pytest.approx(expected)


@pytest.mark.parametrize(("scores", "contrast"), [(ALBUMIN, (1, 0, -1)), (PROTEIN, (0, 1, -1))])
def test_two_medical_tests_of_the_original_data(scores, contrast):
    gap, error = jackknife(contrast)
    found = delong_difference(OUTCOME, scores, K_G)
    half = stats.norm.ppf(0.975) * error
    p_value = 2 * stats.norm.sf(abs(gap) / error)
    expected = (gap, gap - half, gap + half, p_value)
    assert (found.estimate, found.low, found.high, found.p_value) == pytest.approx(expected)


def test_the_interval_contains_the_true_value():
    """Normal scores one apart: AUC = Phi(1 / sqrt(2)); 400 studies of 40 + 60 images."""
    rng = np.random.default_rng(0)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    positive = np.repeat([True, False], [40, 60])
    found = [delong(positive, rng.normal(size=100) + positive) for _ in range(400)]
    assert 0.92 <= np.mean([of.low <= truth <= of.high for of in found]) <= 0.97


def test_under_no_difference_one_in_twenty_is_significant():
    rng = np.random.default_rng(1)
    positive = np.repeat([True, False], [50, 50])
    p_values = []
    for _ in range(400):
        shared = rng.normal(size=100) + positive
        a, b = shared + 0.5 * rng.normal(size=(2, 100))
        p_values.append(delong_difference(positive, a, b).p_value)
    assert 0.025 <= np.mean(np.array(p_values) <= 0.05) <= 0.075


def test_delong_agrees_with_the_bootstrap_if_each_image_is_a_group():
    rng = np.random.default_rng(2)
    positive = np.repeat([1, 0], [150, 150])
    scores = rng.normal(size=300) + positive
    drawn = resample(positive, None, "ab", seeds=1, count=2000)
    by_draws = interval(
        drawn, resampled_roc(drawn, positive, scores, lambda c: c.area()[:, None])[:, :, 0]
    )
    found = delong(positive, scores)
    assert found.high - found.low == pytest.approx(by_draws.high - by_draws.low, rel=0.06)


def test_a_run_and_itself_and_the_order_of_runs():
    rng = np.random.default_rng(3)
    positive = rng.random(60) < 0.5
    scores = rng.normal(size=(4, 60)) + positive
    same = delong_difference(positive, scores[:2], scores[:2])
    assert (same.estimate, same.why) == (0, NO_SPREAD)
    assert np.isnan([same.low, same.high, same.p_value]).all()
    there, back = (
        delong_difference(positive, scores[:2], scores[2:]),
        delong_difference(positive, scores[2:], scores[:2]),
    )
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert delong(positive, scores).estimate == pytest.approx(
        np.mean([roc_auc_score(positive, s) for s in scores])
    )


def test_a_perfect_curve_has_no_interval():
    found = delong([0, 0, 1, 1], [1, 2, 3, 4])
    assert (found.estimate, found.why) == (1, NO_SPREAD)
    assert np.isnan([found.low, found.high, found.p_value]).all()
    assert delong([0, 0, 0, 1, 1, 1], [1, 2, 4, 3, 5, 6]).high == 1


def test_bad_arrays():
    with pytest.raises(ValueError, match="not 1 and 2"):
        delong([1, 0, 0], [1, 2, 3])
    with pytest.raises(ValueError, match="must be"):
        delong([1, 0, 0, 1], [1, 2, 3])
