"""The share of the data at which one condition reaches another: closed forms, ends, coverage."""

import numpy as np
import pytest

from stagetransfer.statistics import RatioSeries, cross_seeds, resample, resampled_metrics
from stagetransfer.statistics.data_needed import data_needed

RATIOS = np.repeat([0.2, 0.6, 1.0], 3)
SEEDS = np.tile([0, 1, 2], 3)
LABELS = np.arange(120) % 2
GROUPS = [f"p{i // 4}" for i in range(120)]
RESAMPLES = cross_seeds(resample(LABELS, GROUPS, ("a", "b"), seeds=1, count=400), np.arange(3))


def series(curve, noise=0.0, seed=0):
    """Runs whose values are those of a curve, with noise shared by a resample."""
    rows = len(RESAMPLES.weights)
    random = np.random.default_rng(seed)
    values = np.array([curve(r) for r in RATIOS]) + noise * random.normal(size=(rows, 1))
    values = values + noise * random.normal(size=(1, len(RATIOS)))
    values[0] = [curve(r) for r in RATIOS]
    return RatioSeries(values, RATIOS, SEEDS)


def test_the_crossing_of_straight_lines():
    found = data_needed(
        RESAMPLES, series(lambda r: 0.5 + 0.4 * r, 0.01), series(lambda r: 0.7, 0.01, 1)
    )
    assert found.estimate == pytest.approx(0.5)
    assert 0.2 < found.low < 0.5 < found.high < 1


def test_between_ratios_the_means_are_interpolated():
    curve = {0.2: 0.5, 0.6: 0.8, 1.0: 0.9}.get
    found = data_needed(RESAMPLES, series(curve, 0.001), series(lambda r: 0.65, 0.001, 1))
    assert found.estimate == pytest.approx(0.4)
    found = data_needed(RESAMPLES, series(curve, 0.001), series(lambda r: 0.875, 0.001, 1))
    assert found.estimate == pytest.approx(0.9)


def test_the_goal_is_the_reference_with_all_data():
    found = data_needed(
        RESAMPLES, series(lambda r: 0.5 + 0.4 * r, 0.01), series(lambda r: 0.7 * r, 0.01, 1)
    )
    assert found.estimate == pytest.approx(0.5)


def test_what_lies_outside_of_the_ratios():
    always = data_needed(RESAMPLES, series(lambda r: 0.9, 0.01), series(lambda r: 0.5, 0.01, 1))
    assert (always.estimate, always.low, always.high) == (0, 0, 0)
    never = data_needed(RESAMPLES, series(lambda r: 0.5, 0.01), series(lambda r: 0.9, 0.01, 1))
    assert (never.estimate, never.low, never.high) == (np.inf, np.inf, np.inf)
    unsure = data_needed(RESAMPLES, series(lambda r: 0.7, 0.1), series(lambda r: 0.7, 0.1, 1))
    assert unsure.low == 0
    assert unsure.high == np.inf


def test_without_spread_nothing_is_claimed():
    found = data_needed(RESAMPLES, series(lambda r: r), series(lambda r: 0.5))
    assert np.isnan([found.estimate, found.low, found.high]).all()
    assert found.why


def test_the_interval_contains_the_true_share_as_often_as_it_says():
    # Accuracy 0.6 + 0.3 r against 0.75: the share is 0.5. Seeds and patients both vary.
    random, inside = np.random.default_rng(1), 0
    labels, groups = np.arange(400) % 2, [f"p{i // 4}" for i in range(400)]
    base = resample(labels, groups, ("a", "b"), seeds=1, count=200)
    resamples = cross_seeds(base, np.arange(5))
    ratios, seeds = np.repeat([0.2, 0.6, 1.0], 5), np.tile(np.arange(5), 3)
    for _ in range(60):
        of_patient = np.repeat(0.1 * random.normal(size=100), 4)

        def runs(curve, of_patient=of_patient):
            p = curve(ratios)[:, None] + of_patient + 0.02 * random.normal(size=(15, 1))
            right = random.random((15, 400)) < p
            shown = np.where(right, labels, 1 - labels)
            values = resampled_metrics(base, np.eye(2)[shown], areas=False)["accuracy"]
            return RatioSeries(values, ratios, seeds)

        found = data_needed(resamples, runs(lambda r: 0.6 + 0.3 * r), runs(lambda r: 0.75 + 0 * r))
        inside += found.low <= 0.5 <= found.high
    assert inside >= 53  # of 60; 95 % are 57
