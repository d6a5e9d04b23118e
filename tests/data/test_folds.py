"""Folds: every class in each, no group in two, even; or one line that says why not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagetransfer.data.folds import assign_folds
from stagetransfer.errors import UserError
from stagetransfer.synthetic.lung import lung


@settings(max_examples=15)
@given(st.integers(2, 5), st.integers(0, 2**31), st.booleans())
def test_no_group_is_divided_and_no_class_absent(count, seed, grouped):
    random = np.random.default_rng(seed)
    of_group = np.repeat(np.arange(3), 8)  # a class's own groups, eight each, of uneven size
    group = np.repeat(np.arange(24), random.integers(1, 6, 24))
    labels = of_group[group]
    groups = group.astype(str) if grouped else None
    fold = assign_folds(labels, groups, count, seed, classes=("a", "b", "c"))
    assert sorted({*fold}) == list(range(count))
    for number in range(count):
        assert {*labels[fold == number]} == {0, 1, 2}
    if grouped:
        assert all(len({*fold[group == g]}) == 1 for g in range(24))
    else:
        sizes = [np.bincount(fold[labels == label], minlength=count) for label in range(3)]
        assert all(np.ptp(size) <= 1 for size in sizes)


def test_folds_of_the_embedded_target_are_even():
    samples = lung(scale=0.2)
    fold = assign_folds(samples.labels, samples.groups, 5, 0, classes=samples.classes)
    again = assign_folds(samples.labels, samples.groups, 5, 0, classes=samples.classes)
    other = assign_folds(samples.labels, samples.groups, 5, 1, classes=samples.classes)
    assert (fold == again).all()
    assert (fold != other).any()
    shares = np.array([np.bincount(samples.labels[fold == i], minlength=7) for i in range(5)])
    assert np.abs(shares / shares.sum(0) - 0.2).max() < 0.05


def test_too_few_groups_of_a_class_give_the_possible_number_of_folds():
    labels = np.array([0] * 20 + [1] * 6)
    groups = [f"p{i}" for i in range(20)] + ["q", "q", "r", "r", "s", "s"]
    with pytest.raises(UserError, match=r"class rare has 3 groups .*use --folds 3"):
        assign_folds(labels, groups, 5, 0, classes=("common", "rare"))
    assert len({*assign_folds(labels, groups, 3, 0, classes=("common", "rare"))}) == 3


def test_one_fold_is_refused():
    with pytest.raises(UserError, match="--folds 1: needs 2"):
        assign_folds(np.array([0, 1]), None, 1, 0, classes=("a", "b"))
