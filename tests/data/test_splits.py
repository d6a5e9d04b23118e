"""Cuts and subsets: disjoint by group, stratified by class, nested, the same from one seed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagetransfer.data.samples import Samples
from stagetransfer.data.splits import hold_out, official, subset
from stagetransfer.errors import UserError

CLASSES = ("a", "b", "c")
WORDS = {"classes": CLASSES, "what": "test", "hint": "domain.x.split_by=image"}


@st.composite
def labelled(draw, least=2, most=60):
    counts = [draw(st.integers(least, most)) for _ in CLASSES]
    labels = np.repeat(np.arange(3), counts)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)


def samples(groups, splits):
    n = len(splits)
    return Samples(np.zeros((n, 1, 1), np.uint8), tuple(map(str, range(n))),
                   np.arange(n) % 2, ("a", "b"), groups, splits)  # fmt: skip


@given(labelled(), st.floats(0.05, 0.9), st.integers(0, 5))
def test_a_cut_by_image_is_a_partition_with_every_class_on_both_sides(labels, share, seed):
    kept, held = hold_out(labels, None, share, seed, **WORDS)
    assert np.array_equal(np.sort(np.r_[kept, held]), np.arange(len(labels)))
    assert set(labels[kept]) == set(labels[held]) == {0, 1, 2}
    again = hold_out(labels, None, share, seed, **WORDS)
    assert np.array_equal(held, again[1])
    for k in range(3):
        n = np.sum(labels == k)
        assert abs(np.sum(labels[held] == k) - share * n) <= max(1.5, 0.02 * n)


@given(st.integers(4, 12), st.integers(1, 6), st.sampled_from([0.15, 0.25, 0.5, 0.75]),
       st.integers(0, 3))  # fmt: skip
def test_a_cut_by_group_divides_none(per_class, size, share, seed):
    labels = np.repeat(np.arange(3), per_class * size)
    groups = [f"{k}-{g}" for k in range(3) for g in range(per_class) for _ in range(size)]
    kept, held = hold_out(labels, groups, share, seed, **WORDS)
    names = np.array(groups)
    assert not set(names[kept]) & set(names[held])
    assert set(labels[kept]) == set(labels[held]) == {0, 1, 2}
    assert np.array_equal(np.sort(np.r_[kept, held]), np.arange(len(labels)))
    for k in range(3):  # a share nearer than two groups of the class
        assert abs(np.mean(labels[held] == k) * len(held) / size - share * per_class) <= 2


def test_the_cut_does_not_know_the_seed_of_the_run_but_its_own():
    labels = np.repeat(np.arange(3), 30)
    cuts = {tuple(hold_out(labels, None, 0.25, seed, **WORDS)[1]) for seed in range(4)}
    assert len(cuts) == 4


def test_one_group_in_a_class_is_too_few():
    labels = np.array([0, 0, 1, 1, 2, 2])
    groups = ["p", "q", "r", "r", "s", "t"]
    with pytest.raises(UserError, match=r"class b has 1 group: too few for a test set.*split_by"):
        hold_out(labels, groups, 0.5, 0, **WORDS)


def test_one_image_in_a_class_is_too_few():
    with pytest.raises(UserError, match=r"class c has 1 image: too few .*add images"):
        hold_out(np.array([0, 0, 1, 1, 2]), None, 0.5, 0, **WORDS)


def test_fewer_groups_than_the_share_asks_folds_for():
    labels = np.arange(24) % 2
    groups = np.char.add("p", (np.arange(24) % 6).astype(str))
    words = WORDS | {"classes": ("a", "b")}
    kept, held = hold_out(labels, groups, 0.15, 0, **words)
    assert len(held) == 8  # a patient of each class
    assert set(labels[kept]) == set(labels[held]) == {0, 1}


def test_groups_that_hang_together_cannot_be_cut():
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0, 1, 1])
    groups = ["p", "p", "p", "p", "p", "q", "q", "q", "q", "q"]
    kept, held = hold_out(labels, groups, 0.5, 0, **WORDS)
    assert set(labels[kept]) == set(labels[held]) == {0, 1, 2}


@given(labelled(least=10), st.floats(0.1, 1), st.floats(0.1, 1), st.integers(0, 9))
def test_subsets_are_nested_and_exact(labels, one, two, seed):
    small, large = (subset(labels, r, seed, classes=CLASSES) for r in sorted((one, two)))
    assert set(small) <= set(large)
    for k in range(3):
        n = int(np.sum(labels == k))
        assert np.sum(labels[small] == k) == math.floor(min(one, two) * n + 0.5)
    assert np.array_equal(small, np.sort(small))
    assert np.array_equal(small, subset(labels, min(one, two), seed, classes=CLASSES))


def test_the_whole_is_the_whole_and_seeds_differ():
    labels = np.repeat(np.arange(3), 20)
    assert np.array_equal(subset(labels, 1.0, 0, classes=CLASSES), np.arange(60))
    drawn = {tuple(subset(labels, 0.5, seed, classes=CLASSES)) for seed in range(5)}
    assert len(drawn) == 5


def test_a_ratio_that_empties_a_class_is_refused_with_the_smallest_that_does_not():
    labels = np.array([0] * 100 + [1] * 100 + [2] * 4)
    line = r"ratio=0.1 leaves class c no image of its 4; the smallest ratio that keeps one is 0.125"
    with pytest.raises(UserError, match=line):
        subset(labels, 0.1, 0, classes=CLASSES)
    assert np.sum(labels[subset(labels, 0.125, 0, classes=CLASSES)] == 2) == 1
    kept = subset(labels, 0.1, 0, classes=CLASSES, at_least=1)
    assert np.sum(labels[kept] == 2) == 1


def test_official_splits():
    rows = official(samples(("p", "p", "q", "r"), ("train", "train", "test", "test")))
    assert {name: list(part) for name, part in rows.items()} == {"train": [0, 1], "test": [2, 3]}
    assert official(samples(None, ("train",) * 4)).keys() == {"train"}


def test_a_patient_on_both_sides_is_an_error():
    with pytest.raises(UserError, match=r"patient\) 'p' is in train and in test"):
        official(samples(("p", "q", "p", "r"), ("train", "train", "test", "test")))
