"""Held-out images and subsets: disjoint by group, stratified, nested, decided by the seed."""

import math
import re
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagetransfer.data.holdout import check_disjoint, hold_out, official_splits
from stagetransfer.data.subset import subset_by_group, subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples

CLASSES = ("a", "b", "c")
WORDS = {"what": "test", "hint": "domain.x.split_by=image", "classes": CLASSES}
SHARES = st.floats(0.02, 0.98)
SEEDS = st.integers(0, 99)


@st.composite
def labelled(draw, least=2, most=60):
    """Labels of three classes in any order."""
    counts = [draw(st.integers(least, most)) for _ in CLASSES]
    return np.random.default_rng(draw(SEEDS)).permutation(np.repeat(np.arange(3), counts))


@st.composite
def grouped(draw, mixed, least=2, most=12):
    """Labels and groups of 1 to 9 images; mixed groups have images of other classes too."""
    labels, groups = [], []
    for label in range(3):
        for i in range(draw(st.integers(least, most))):
            size = draw(st.integers(1, 9))
            others = draw(st.lists(st.integers(0, 2), max_size=4)) if mixed else []
            labels += [label] * size + others
            groups += [f"{'xyz'[label]}{i}"] * (size + len(others))
    order = np.random.default_rng(draw(SEEDS)).permutation(len(labels))
    return np.array(labels)[order], np.array(groups)[order]


def shares(labels, rows):
    return np.bincount(labels[rows], minlength=3) / np.bincount(labels, minlength=3)


def is_partition(kept, held, n):
    return np.array_equal(np.sort(np.r_[kept, held]), np.arange(n)) and all(
        np.array_equal(rows, np.sort(rows)) for rows in (kept, held)
    )


def samples(groups, splits):
    n = len(splits)
    return Samples(np.zeros((n, 1, 1), np.uint8), tuple(map(str, range(n))),
                   np.arange(n) % 2, ("a", "b"), groups, splits)  # fmt: skip


# hold_out


@given(labelled(), SHARES, SEEDS)
def test_a_split_by_image_has_the_exact_size_in_every_class(labels, share, seed):
    kept, held = hold_out(labels, None, share, seed, **WORDS)
    assert is_partition(kept, held, len(labels))
    for k in range(3):
        n = int(np.sum(labels == k))
        assert np.sum(labels[held] == k) == min(max(math.floor(share * n + 0.5), 1), n - 1)
    assert np.array_equal(held, hold_out(labels, None, share, seed, **WORDS)[1])


@given(grouped(mixed=False), SHARES, SEEDS)
def test_a_split_by_group_divides_none_and_has_every_class_on_both_sides(data, share, seed):
    labels, groups = data
    kept, held = hold_out(labels, groups, share, seed, **WORDS)
    assert is_partition(kept, held, len(labels))
    assert not set(groups[kept]) & set(groups[held])
    assert set(labels[kept]) == set(labels[held]) == {0, 1, 2}
    assert np.array_equal(held, hold_out(labels, list(groups), share, seed, **WORDS)[1])


@given(grouped(mixed=True, most=3), st.sampled_from([0.15, 0.25, 0.4, 0.7]), SEEDS)
def test_a_split_by_group_is_close_to_the_best_possible(data, share, seed):
    labels, groups = data
    names = np.unique(groups)
    best = math.inf
    for chosen in product((False, True), repeat=len(names)):
        s = shares(labels, np.isin(groups, names[np.array(chosen)]))
        if (s > 0).all() and (s < 1).all():
            best = min(best, float(np.sum((s - share) ** 2)))
    try:
        held = hold_out(labels, groups, share, seed, **WORDS)[1]
    except UserError:
        assert best == math.inf
    else:
        assert np.sum((shares(labels, held) - share) ** 2) <= best + 0.005


@pytest.mark.parametrize("share", [0.1, 0.15, 0.25, 0.4, 0.45, 0.6, 0.8])
def test_a_split_by_group_of_many_patients_has_the_share_in_every_class(share):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 2000)
    groups = np.char.add("p", (80 * random.random(2000) ** 2).astype(int).astype(str))
    held = hold_out(labels, groups, share, 0, **WORDS)[1]
    assert shares(labels, held) == pytest.approx(share, abs=0.01)


@given(grouped(mixed=True), SEEDS)
def test_a_split_by_group_does_not_depend_on_the_order_of_the_rows(data, seed):
    labels, groups = data
    order = np.random.default_rng(seed).permutation(len(labels))
    try:
        held = hold_out(labels, groups, 0.3, seed, **WORDS)[1]
    except UserError:
        return
    again = hold_out(labels[order], groups[order], 0.3, seed, **WORDS)[1]
    assert set(groups[held]) == set(groups[order][again])


@pytest.mark.parametrize("groups", [None, [f"g{i // 3}" for i in range(90)]])
def test_seeds_give_different_splits(groups):
    labels = np.repeat(np.arange(3), 30)
    splits = {tuple(hold_out(labels, groups, 0.25, seed, **WORDS)[1]) for seed in range(6)}
    assert len(splits) == 6


@pytest.mark.parametrize(
    ("labels", "groups", "line"),
    [
        ([0, 0, 1, 1, 2, 2], ["p", "q", "r", "r", "s", "t"],
         "class b has 1 group: too few for a test set beside the training set; "
         "domain.x.split_by=image splits by image"),
        ([0, 0, 1, 1, 2], None,
         "class c has 1 image: too few for a test set beside the training set; add images"),
        ([0, 0, 1, 1], None,
         "class c has 0 images: too few for a test set beside the training set; add images"),
        # p-q-r hold two classes each, in a ring: whichever side has two of the groups has all
        # images of the class that these two share.
        ([0, 1, 1, 2, 2, 0], ["p", "p", "q", "q", "r", "r"],
         r"class \w has 2 groups and none of them can go to the (test|training) set beside the "
         r"other classes' groups; domain.x.split_by=image splits by image"),
    ],
)  # fmt: skip
def test_sets_that_cannot_be_split(labels, groups, line):
    with pytest.raises(UserError) as caught:
        hold_out(np.array(labels), groups, 0.5, 0, **WORDS)
    assert re.fullmatch(line, str(caught.value))


def test_connected_groups_are_split_in_the_only_possible_way():
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0, 1, 1])
    groups = np.array(["p", "p", "p", "p", "p", "q", "q", "q", "q", "q"])
    kept, held = hold_out(labels, groups, 0.5, 0, **WORDS)
    assert {*groups[kept]} ^ {*groups[held]} == {"p", "q"}


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0, math.nan])
def test_an_impossible_share(share):
    with pytest.raises(UserError, match=r"^the test share is .*: it must lie between 0 and 1$"):
        hold_out(np.array([0, 0, 1, 1, 2, 2]), None, share, 0, **WORDS)


def test_few_groups_for_a_small_share():
    labels = np.arange(24) % 2
    groups = np.char.add("p", (np.arange(24) % 6).astype(str))
    words = WORDS | {"classes": ("a", "b")}
    kept, held = hold_out(labels, groups, 0.15, 0, **words)
    assert len(held) == 8  # a patient of each class
    assert set(labels[kept]) == set(labels[held]) == {0, 1}


# subset


@given(labelled(least=10), st.floats(0.1, 1), st.floats(0.1, 1), SEEDS)
def test_subsets_are_nested_and_exact(labels, one, two, seed):
    small, large = (subset_by_image(labels, r, seed, CLASSES) for r in sorted((one, two)))
    assert set(small) <= set(large)
    for k in range(3):
        n = int(np.sum(labels == k))
        assert np.sum(labels[small] == k) == math.floor(min(one, two) * n + 0.5)
    assert np.array_equal(small, np.unique(small))
    assert np.array_equal(small, subset_by_image(labels, min(one, two), seed, CLASSES))


@given(labelled(least=10), st.floats(0.1, 0.9), SEEDS)
def test_the_subset_of_a_class_does_not_depend_on_the_other_classes(labels, ratio, seed):
    rows = subset_by_image(labels, ratio, seed, CLASSES)
    other = np.where(labels == 2, 1, labels)
    assert np.array_equal(
        rows[labels[rows] == 0], (r := subset_by_image(other, ratio, seed, CLASSES))[other[r] == 0]
    )


def test_ratio_one_takes_all_images_and_seeds_differ():
    labels = np.repeat(np.arange(3), 20)
    assert np.array_equal(subset_by_image(labels, 1.0, 0, CLASSES), np.arange(60))
    assert len({tuple(subset_by_image(labels, 0.5, seed, CLASSES)) for seed in range(5)}) == 5


def test_a_ratio_that_empties_a_class_is_refused():
    labels = np.array([0] * 100 + [1] * 100 + [2] * 4)
    line = r"ratio=0.1 leaves class c no image of its 4; the smallest ratio that keeps one is 0.125"
    with pytest.raises(UserError, match=f"^{line}$"):
        subset_by_image(labels, 0.1, 0, CLASSES)
    kept = subset_by_image(labels, 0.1, 0, CLASSES, keep_classes=True)
    assert np.bincount(labels[kept]).tolist() == [10, 10, 1]


@given(labelled(least=1, most=3000))
def test_the_ratio_in_the_message_is_the_smallest_that_keeps_every_class(labels):
    with pytest.raises(UserError, match=r"^ratio=1e-06 leaves class") as caught:
        subset_by_image(labels, 1e-6, 0, CLASSES)
    named = float(str(caught.value).rpartition(" ")[2])
    assert set(labels[subset_by_image(labels, named, 0, CLASSES)]) == {0, 1, 2}
    with pytest.raises(UserError):
        subset_by_image(labels, named * 0.985, 0, CLASSES)


def test_a_class_without_images_is_not_refused():
    labels = np.array([0, 0, 2, 2])
    assert subset_by_image(labels, 0.5, 0, CLASSES).shape == (2,)
    assert set(labels[subset_by_group(labels, list("pqrs"), 0.5, 0, CLASSES)]) == {0, 2}


# subset_by_group


def by_group(labels, groups, ratio, seed):
    try:
        return subset_by_group(labels, groups, ratio, seed, CLASSES)
    except UserError:
        return None


@given(grouped(mixed=True), st.lists(st.floats(0.02, 1), min_size=2, max_size=4), SEEDS)
def test_subsets_of_whole_groups_are_nested(data, ratios, seed):
    labels, groups = data
    drawn = [by_group(labels, groups, r, seed) for r in [*sorted(ratios), 1.0]]
    assert drawn[-1] is not None
    assert np.array_equal(drawn[-1], np.arange(len(labels)))
    drawn = [rows for rows in drawn if rows is not None]
    for small, large in pairwise(drawn):
        assert set(small) <= set(large)
    for rows in drawn:
        assert np.array_equal(rows, np.unique(rows))
        assert not set(groups[rows]) & set(np.delete(groups, rows))
        assert set(labels[rows]) == {0, 1, 2}
    again = by_group(labels, list(groups), ratios[0], seed)
    assert np.array_equal(by_group(labels, groups, ratios[0], seed), again)


@given(grouped(mixed=False), st.floats(0.02, 1), SEEDS)
def test_with_groups_of_one_class_each_class_is_within_half_a_group(data, ratio, seed):
    labels, groups = data
    rows = by_group(labels, groups, ratio, seed)
    if rows is None:
        return
    for k, share in enumerate(shares(labels, rows)):
        counts = np.unique(groups[labels == k], return_counts=True)[1]
        assert abs(share - ratio) <= counts.max() / counts.sum() / 2 + 1e-9


def test_subsets_of_mixed_groups_are_close_to_the_ratio():
    random = np.random.default_rng(0)
    groups = np.char.add("p", random.integers(0, 60, 1500).astype(str))
    favourite = random.integers(0, 3, 60)
    number = np.char.lstrip(groups, "p").astype(int)
    labels = np.where(random.random(1500) < 0.8, favourite[number], random.integers(0, 3, 1500))
    for ratio, seed in product((0.2, 0.4, 0.6, 0.8), range(5)):
        rows = subset_by_group(labels, groups, ratio, seed, CLASSES)
        assert shares(labels, rows) == pytest.approx(ratio, abs=0.05)
    drawn = {tuple(subset_by_group(labels, groups, 0.4, seed, CLASSES)) for seed in range(6)}
    assert len(drawn) == 6


@given(grouped(mixed=True), SEEDS)
def test_a_ratio_that_leaves_a_class_no_group_is_refused_with_the_smallest_legal_one(data, seed):
    labels, groups = data
    with pytest.raises(UserError) as caught:
        subset_by_group(labels, groups, 1e-4, seed, CLASSES)
    line = (
        r"ratio=0.0001 leaves class (\w) none of its (\d+) groups; the smallest ratio that keeps "
        r"one is (.*)"
    )
    name, count, named = re.fullmatch(line, str(caught.value)).groups()
    assert int(count) == len(set(groups[labels == CLASSES.index(name)]))
    rows = subset_by_group(labels, groups, float(named), seed, CLASSES)
    assert set(labels[rows]) == {0, 1, 2}
    with pytest.raises(UserError, match=f"class {name} none"):
        subset_by_group(labels, groups, float(named) * 0.985, seed, CLASSES)


# official splits


def test_official_splits():
    rows = official_splits(samples(("p", "p", "q", "r"), ("train", "train", "test", "test")))
    assert {name: list(part) for name, part in rows.items()} == {"train": [0, 1], "test": [2, 3]}
    assert official_splits(samples(None, ("train",) * 4)).keys() == {"train"}
    assert official_splits(replace(samples(None, ("train",) * 4), splits=None)) == {}


@pytest.mark.parametrize("other", ["test", "validation"])
def test_a_patient_on_both_sides_is_an_error(other):
    line = (
        f"the group (patient) 'p7' is in train and in {other}: the network would be tested on "
        f"patients that it was trained on. Move all images of the group to one part."
    )
    with pytest.raises(UserError) as caught:
        official_splits(samples(("p7", "q", "p7", "r"), ("train", "train", other, other)))
    assert str(caught.value) == line


def test_disjoint_sets():
    groups = ["p", "p", "q", "r"]
    one, two, three = np.array([0, 1]), np.array([2]), np.array([3])
    check_disjoint(groups, {"a": one, "b": two, "c": three})
    check_disjoint(groups, {"a": one})
    with pytest.raises(UserError, match=r"'q' is in b and in c: "):
        check_disjoint(groups, {"a": one, "b": two, "c": np.array([2, 3])})
