import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from stagetransfer.statistics import (
    Interval,
    RatioSeries,
    area_interval,
    fit_line,
    resample,
    resampled_metrics,
    slope_interval,
)
from stagetransfer.statistics.intervals import NO_SPREAD

RATIOS = np.repeat([0.2, 0.4, 0.6, 0.8, 1.0], 3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), slope=st.floats(-2, 2), n=st.integers(3, 15))
def test_agrees_with_statsmodels_and_scipy(seed, slope, n):
    rng = np.random.default_rng(seed)
    r = rng.permutation(RATIOS)[:n]
    r[:2] = 0.2, 1.0
    y = 0.5 + slope * r + rng.normal(0, 0.1, n)
    found = fit_line(r, y)
    fit = sm.OLS(y, sm.add_constant(r)).fit()
    assert (found.intercept, found.slope) == pytest.approx(tuple(fit.params), abs=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[1]), abs=1e-9)
    assert found.p_value == pytest.approx(fit.pvalues[1], abs=1e-9)
    assert found.r_squared == pytest.approx(fit.rsquared, abs=1e-9)
    assert found.slope == pytest.approx(stats.linregress(r, y).slope, abs=1e-9)


@given(seed=st.integers(0, 10**6))
def test_lack_of_fit_agrees_with_the_comparison_of_models(seed):
    rng = np.random.default_rng(seed)
    y = RATIOS + 0.3 * np.sqrt(RATIOS) + rng.normal(0, 0.05, 15)
    straight = sm.OLS(y, sm.add_constant(RATIOS)).fit()
    free = sm.OLS(y, (RATIOS[:, None] == np.unique(RATIOS)).astype(float)).fit()
    assert fit_line(RATIOS, y).lack_of_fit_p == pytest.approx(
        free.compare_f_test(straight)[1], abs=1e-9
    )


def noise(scale, seed=0):
    return scale * np.random.default_rng(seed).normal(size=15)


@pytest.mark.parametrize(
    ("y", "bad"),
    [
        (RATIOS + noise(0.02), False),
        (noise(0.02), False),  # flat: r_squared is near 0, yet a line is right
        (np.full(15, 0.9), False),
        (np.log(RATIOS) + noise(0.02), True),
        (np.log(RATIOS) + noise(1.0), False),  # the spread hides the curve
        (RATIOS - 0.05 * RATIOS**2, False),  # surely curved, but hardly
        ((RATIOS - 0.6) ** 2, True),
    ],
)
def test_bad_fit(y, bad):
    assert fit_line(RATIOS, y).bad_fit is bad


def test_one_run_per_ratio_cannot_distinguish_noise_from_a_curve():
    r = np.unique(RATIOS)
    curved, straight = fit_line(r, np.log(r)), fit_line(r, 1 - r)
    assert np.isnan(curved.lack_of_fit_p)
    assert curved.bad_fit
    assert not straight.bad_fit
    assert not fit_line(r, np.full(5, 0.9)).bad_fit


def test_a_line_through_two_runs():
    found = fit_line([0.5, 1.0], [0.1, 0.4])
    assert found.slope == pytest.approx(0.6)
    assert np.isnan([found.low, found.high, found.p_value]).all()
    assert not found.bad_fit


NAMES = ("a", "b")
SEEDS = np.tile([0, 1, 2], 5)


def sweep(skills, seed=0, n=120, groups=30):
    """Resamples, and the accuracies of 15 runs at RATIOS with these chances to be correct."""
    rng = np.random.default_rng(seed)
    labels, group = rng.integers(0, 2, n), rng.integers(0, groups, n)
    right = rng.random(n) < np.reshape(skills, (-1, 1))
    p = np.where(right[..., None], np.eye(2)[labels], 1 - np.eye(2)[labels])
    drawn = resample(labels, group, NAMES, seeds=3, count=500)
    return drawn, resampled_metrics(drawn, p)["accuracy"]


def test_the_bootstrap_interval_contains_the_least_squares_slope():
    drawn, values = sweep(0.6 + 0.3 * RATIOS)
    for kept in (slice(None), slice(2, 13)):  # all runs, and a sweep with runs missing
        found = slope_interval(drawn, RatioSeries(values[:, kept], RATIOS[kept], SEEDS[kept]))
        assert found.estimate == pytest.approx(
            fit_line(RATIOS[kept], values[0, kept]).slope, abs=1e-9
        )
        assert found.low < found.estimate < found.high


def test_a_draw_is_the_line_through_the_drawn_runs(monkeypatch):
    drawn, values = sweep(0.6 + 0.3 * RATIOS)
    seen = []
    monkeypatch.setattr(
        "stagetransfer.statistics.slope.calibrated_interval",
        lambda resamples, statistic: (
            seen.append(statistic(resamples.drawn, resamples.seeds)) or Interval.undefined()
        ),
    )
    slope_interval(drawn, RatioSeries(values, RATIOS, SEEDS))
    for draw in range(5):
        times = drawn.seeds[draw, SEEDS].astype(int)
        expected = stats.linregress(RATIOS.repeat(times), values[1 + draw].repeat(times))
        assert seen[0][draw] == pytest.approx(expected.slope, abs=1e-9)


def test_draws_without_a_line_are_left_out():
    drawn, values = sweep(0.6 + 0.3 * RATIOS)
    kept = [0, 12, 1, 2]  # seed 0 at two ratios, the others at one
    found = slope_interval(drawn, RatioSeries(values[:, kept], RATIOS[kept], SEEDS[kept]))
    assert np.isfinite([found.low, found.high]).all()


def test_at_one_ratio_there_is_no_slope():
    drawn, values = sweep(0.6 + 0.3 * RATIOS)
    found = slope_interval(drawn, RatioSeries(values[:, :3], RATIOS[:3], SEEDS[:3]))
    assert np.isnan([found.estimate, found.low, found.high, found.p_value]).all()


def test_difference_of_slopes():
    drawn, values = sweep(np.concatenate([0.5 + 0.45 * RATIOS, np.full(15, 0.9)]))
    steep, flat = (RatioSeries(values[:, k : k + 15], RATIOS, SEEDS) for k in (0, 15))
    found = slope_interval(drawn, steep, flat)
    expected = fit_line(RATIOS, values[0, :15]).slope - fit_line(RATIOS, values[0, 15:]).slope
    assert found.estimate == pytest.approx(expected, abs=1e-9)
    assert found.low > 0
    assert found.p_value < 0.05
    same = slope_interval(drawn, steep, steep)
    assert (same.estimate, same.why) == (0, NO_SPREAD)


def test_the_area_is_that_under_the_means_at_each_ratio():
    skills = np.concatenate([0.5 + 0.4 * np.sqrt(RATIOS), np.full(15, 0.8)])
    drawn, values = sweep(skills)
    curved, flat = (RatioSeries(values[:, k : k + 15], RATIOS, SEEDS) for k in (0, 15))
    levels = np.unique(RATIOS)
    expected = [
        integrate.trapezoid([of.values[0, level == RATIOS].mean() for level in levels], levels)
        / 0.8
        for of in (curved, flat)
    ]
    for of, area in zip((curved, flat), expected, strict=True):
        found = area_interval(drawn, of, highest=1.0)
        assert found.estimate == pytest.approx(area, abs=1e-9)
        assert found.low < area < found.high <= 1
    gap = area_interval(drawn, curved, flat)
    assert gap.estimate == pytest.approx(expected[0] - expected[1], abs=1e-9)
    assert gap.low < gap.estimate < gap.high
    one = RatioSeries(values[:, :3], RATIOS[:3], SEEDS[:3])
    assert np.isnan(area_interval(drawn, one).estimate)


def test_a_draw_weighs_each_run_by_its_seed(monkeypatch):
    drawn, values = sweep(0.6 + 0.3 * RATIOS)
    kept = slice(0, 14)  # the last seed lacks a ratio
    seen = []
    monkeypatch.setattr(
        "stagetransfer.statistics.slope.calibrated_interval",
        lambda resamples, statistic: (
            seen.append(statistic(resamples.drawn, resamples.seeds)) or Interval.undefined()
        ),
    )
    area_interval(drawn, RatioSeries(values[:, kept], RATIOS[kept], SEEDS[kept]))
    levels = np.unique(RATIOS)
    for draw in range(20):
        times = drawn.seeds[draw, SEEDS[kept]].astype(int)
        r, y = RATIOS[kept].repeat(times), values[1 + draw, kept].repeat(times)
        if len(np.unique(r)) < len(levels):
            assert np.isnan(seen[0][draw])
            continue
        means = [y[r == level].mean() for level in levels]
        assert seen[0][draw] == pytest.approx(np.trapezoid(means, levels) / 0.8, abs=1e-9)
