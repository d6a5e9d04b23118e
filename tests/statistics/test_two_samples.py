"""Distances between two sets of features, against closed forms and a second implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from stagetransfer.statistics.two_samples import frechet_distance, two_sample_accuracy

RANDOM = np.random.default_rng(0)


def reference(a, b):
    common = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return apart + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * common)


@pytest.mark.parametrize(("n", "m"), [(50, 70), (200, 40)])
def test_frechet_is_that_of_the_matrix_root(n, m):
    mixing = RANDOM.normal(size=(6, 6))
    a, b = RANDOM.normal(size=(n, 6)) @ mixing, RANDOM.normal(1, 2, size=(m, 6))
    assert frechet_distance(a, b) == pytest.approx(reference(a, b), rel=1e-6)


@settings(max_examples=50)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 30), st.integers(0, 1000))
def test_frechet_is_symmetric_and_0_only_for_equal_sets(n, m, d, seed):
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(n, d)), random.normal(size=(m, d))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 3) == pytest.approx(9 * d)
    assert frechet_distance(a, b) > 0


def test_frechet_of_one_dimension_is_the_closed_form():
    a, b = RANDOM.normal(0, 1, (500, 1)), RANDOM.normal(2, 3, (400, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)


def names(count, images=1):
    return [f"p{i // images}" for i in range(count)]


def test_different_sets_are_told_apart_and_equal_ones_are_not():
    a, b = RANDOM.normal(size=(150, 5)), RANDOM.normal(size=(300, 5))
    assert two_sample_accuracy(a, b, (names(150), names(300))) == pytest.approx(0.5, abs=0.1)
    assert two_sample_accuracy(a, b + 4, (names(150), names(300))) > 0.98


def test_patients_are_not_divided():
    # Patients differ and the sets do not: with divided patients, this looks like a difference.
    patients = np.repeat(RANDOM.normal(size=(24, 40)) * 3, 10, axis=0)
    features = patients + 0.1 * RANDOM.normal(size=patients.shape)
    a, b = features[:120], features[120:]
    held = two_sample_accuracy(a, b, (names(120, 10), names(120, 10)))
    divided = two_sample_accuracy(a, b, (names(120), names(120)))
    assert divided > 0.95
    assert held < 0.75


def test_one_patient_cannot_be_held_out():
    a, b = RANDOM.normal(size=(10, 2)), RANDOM.normal(size=(10, 2))
    assert np.isnan(two_sample_accuracy(a, b, (["p"] * 10, names(10))))
