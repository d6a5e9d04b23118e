"""Temperature against an independent optimum, ECE against a plain loop, its interval's sanity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from plain_ece import plain_ece
from stagetransfer.statistics import (
    apply_temperature,
    ece_interval,
    fit_temperature,
    reliability,
    resample,
)
from stagetransfer.statistics.calibration import resampled_ece


def sample(seed, n=300, classes=5, sure=1.0):
    """Return labels and logits; `sure` = 1 is calibrated, more is overconfident."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(n, classes))
    labels = np.array([random.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return labels, sure * logits


def loss(labels, logits, temperature):
    return -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean()


@given(seed=st.integers(0, 99), sure=st.floats(0.1, 30))
def test_temperature_is_the_optimum(seed, sure):
    labels, logits = sample(seed, 120, sure=sure)
    found = fit_temperature(labels, logits)
    other = minimize(
        lambda log: loss(labels, logits, np.exp(log[0])), [np.log(sure)], method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-14},
    )  # fmt: skip
    assert found == pytest.approx(float(np.exp(other.x[0])), rel=1e-3)
    assert loss(labels, logits, found) <= loss(labels, logits, float(np.exp(other.x[0]))) + 1e-8


def test_the_temperature_is_the_factor_of_overconfidence():
    labels, logits = sample(1, 20000, sure=3.0)
    assert fit_temperature(labels, logits) == pytest.approx(3, abs=0.1)


def test_a_constant_in_the_logits_changes_nothing():
    labels, logits = sample(2)
    shifted = logits + np.random.default_rng(0).normal(size=(len(labels), 1))
    assert fit_temperature(labels, shifted) == pytest.approx(fit_temperature(labels, logits))
    logs = np.log(softmax(logits, axis=1))
    assert fit_temperature(labels, logs) == pytest.approx(fit_temperature(labels, logits))


def test_without_errors_the_temperature_stays_one():
    assert fit_temperature([0, 1], [[5.0, 0.0], [0.0, 0.1]]) == 1


def test_worse_than_chance_the_temperature_has_a_bound():
    assert fit_temperature([0, 0, 0], [[0.0, 9.0]] * 3) == pytest.approx(100, rel=1e-3)


def test_a_temperature_divides_the_logits():
    _, logits = sample(3)
    p = apply_temperature(softmax(logits, axis=1), 2.5)
    np.testing.assert_allclose(p, softmax(logits / 2.5, axis=1))
    np.testing.assert_allclose(apply_temperature([[1.0, 0.0]], 2.0).sum(), 1)


def test_ece_equals_that_of_a_plain_loop():
    labels, logits = sample(4, sure=2.0)
    p = softmax(logits, axis=1)
    count, confidence, accuracy = reliability(labels, p)
    ece = np.nansum(count * np.abs(accuracy - confidence)) / count.sum()
    assert ece == pytest.approx(plain_ece(labels, p), abs=1e-12)
    assert count.sum() == len(labels)


def test_the_edge_of_a_bin_belongs_to_the_lower_one():
    found = reliability([0, 0], [[0.6, 0.4], [1.0, 0.0]])  # 15 bins: 0.6 is the end of the ninth
    assert np.flatnonzero(found[0]).tolist() == [8, 14]


def test_resampled_ece_begins_with_the_test_set_and_weights_groups():
    labels, logits = sample(5, 60, 3, sure=2.0)
    p = softmax(logits, axis=1)
    groups = np.arange(60) % 12
    resamples = resample(labels, groups, ["a", "b", "c"], seeds=1, count=20)
    values = resampled_ece(resamples, p[None])
    assert values[0, 0] == pytest.approx(plain_ece(labels, p), abs=1e-12)
    place = np.clip(np.ceil(p.max(1) * 15).astype(int) - 1, 0, 14)
    gap = (p.argmax(1) == labels) - p.max(1)
    drawn = []
    for weights in resamples.weights[1:21, resamples.groups]:
        sums = [abs((weights * gap)[place == m].sum()) for m in range(15)]
        drawn.append(sum(sums) / weights.sum())
    centred = np.array(drawn) - np.mean(drawn) + values[0, 0]  # about the estimate
    np.testing.assert_allclose(values[resamples.drawn, 0], centred, atol=1e-12)


def test_the_ece_interval_contains_the_estimate_and_detects_overconfidence():
    labels, logits = sample(6, 400, 3)
    groups = np.arange(400) % 40
    resamples = resample(labels, groups, ["a", "b", "c"], seeds=2, count=400)
    fair, bold = (
        ece_interval(resamples, np.stack([softmax(s * logits, axis=1)] * 2)) for s in (1, 6)
    )
    assert fair.low <= fair.estimate <= fair.high
    assert bold.low > fair.high
