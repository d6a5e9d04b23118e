import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stagetransfer.explain import linear_cka
from stagetransfer.explain.run_measures import compact_features
from stagetransfer.models import InputSpec, alexnet_backbone


def features(n, p, seed):
    return torch.randn(n, p, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pair(n, p, q, seed):
    x = features(n, p, seed)
    return x + 3, x @ features(p, q, seed + 1) + 2 * features(n, q, seed + 2) - 1


def hsic_1(k, m):
    """Song et al. 2012, eq. 5, term by term."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(5, 30),  # more and fewer images than features
    p=st.integers(1, 20),
    q=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_agrees_with_a_plain_reference(n, p, q, seed):
    x, y = pair(n, p, q, seed)
    k, m = (a.numpy() @ a.numpy().T for a in (x, y))
    expected = hsic_1(k, m) / math.sqrt(hsic_1(k, k) * hsic_1(m, m))
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("n", [12, 60])
def test_invariances(n):
    x, y = pair(n, 10, 7, 0)
    value = linear_cka(x, y)
    rotation = torch.linalg.qr(features(10, 10, 9)).Q
    changed = 1e200 * (x @ rotation) + 1e200
    assert linear_cka(changed, 1e-200 * y) == pytest.approx(value, abs=1e-9)
    assert linear_cka(y, x) == pytest.approx(value, abs=1e-12)
    assert linear_cka(x, x @ rotation) == pytest.approx(1, abs=1e-12)
    stretched = x * torch.linspace(0.1, 5, 10)
    assert abs(linear_cka(stretched, y) - value) > 1e-3


def test_unrelated_features_are_near_zero_also_for_few_images_with_many_features():
    assert abs(linear_cka(features(20, 2000, 0), features(20, 2000, 1))) < 0.1


def test_maps_and_half_precision_are_computed_in_float64():
    x, y = pair(10, 12, 8, 0)
    maps = x.float().view(10, 3, 2, 2)
    assert linear_cka(maps, y) == linear_cka(x.float().double(), y)
    assert linear_cka(x.bfloat16(), y) == linear_cka(x.bfloat16().double(), y)


def test_constant_features_give_nan():
    constant = torch.full(
        (10, 3), 0.1, dtype=torch.float64
    )  # the mean differs from 0.1 by rounding
    assert math.isnan(linear_cka(constant, features(10, 3, 0)))
    assert math.isnan(linear_cka(features(10, 3, 0), constant))


def test_compact_features_have_the_same_cka_and_stay_constant():
    network = alexnet_backbone(2, input=InputSpec(67)).eval()
    network.initialise("kaiming", 0)
    images = torch.randn(8, 3, 67, 67, generator=torch.Generator().manual_seed(0))
    compact = compact_features(network, images)
    with torch.no_grad(), network.watched() as outputs:
        network(images)
    expected = linear_cka(outputs["conv1"], outputs["conv5"])
    assert linear_cka(compact["conv1"], compact["conv5"]) == pytest.approx(expected, abs=1e-6)
    with torch.no_grad():
        network.net.conv1.weight.zero_()
        network.net.conv1.bias.uniform_(0.1, 1)
    constant = compact_features(network, images)["conv1"]
    assert math.isnan(linear_cka(constant, compact["conv1"]))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_than_four_images_give_nan(n):
    assert math.isnan(linear_cka(features(n, 3, 0), features(n, 3, 1)))
