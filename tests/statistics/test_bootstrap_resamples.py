import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagetransfer.statistics import cross_seeds, few_groups, resample, resampled_metrics
from stagetransfer.statistics.bootstrap_resamples import divide_strata, join_single_groups

NAMES = ("a", "b", "c", "d")


def images(pairs):
    """Labels and groups from (label, group) pairs."""
    labels, groups = zip(*pairs, strict=True)
    return np.array(labels), np.array(groups)


def holders(groups, labels):
    """Return which group holds which class, (G, 4)."""
    _, group = np.unique(groups, return_inverse=True)
    holds = np.zeros((group.max() + 1, 4), bool)
    holds[group, labels] = True
    return holds


test_sets = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=1, max_size=30).map(
    images
)


@settings(max_examples=150, deadline=None)
@given(test_sets, st.integers(1, 3))
def test_no_class_vanishes_that_has_a_stratum(test_set, seeds):
    labels, groups = test_set
    drawn = resample(labels, groups, NAMES, seeds=seeds, count=60)
    whole = slice(0, drawn.without_one_alone.start)
    weight = drawn.weights[:, drawn.groups]
    left_out = slice(drawn.drawn.stop, drawn.without_one_alone.start)
    holds = holders(drawn.groups, labels)
    for present in np.unique(labels):
        has_one = any(holds[drawn.strata == s, present].all() for s in set(drawn.strata))
        rows = whole if has_one else left_out
        if has_one or holds[:, present].sum() > 1:
            assert (weight[rows, labels == present].sum(1) > 0).all()
    of_groups = [len(np.unique(drawn.groups[labels == c])) for c in range(len(NAMES))]
    alone = {name for name, count in zip(NAMES, of_groups, strict=True) if count == 1}
    assert set(drawn.alone) == alone
    for without in drawn.weights[drawn.without_one_alone]:
        assert sorted(set(without.tolist())) in ([0, 1], [0])
        assert np.sum(without == 0) == 1
    assert (drawn.seeds.sum(1) == max(seeds - 1, 1)).all()


@settings(max_examples=150, deadline=None)
@given(test_sets)
def test_each_class_has_a_stratum_of_groups_that_contain_it(test_set):
    labels, groups = test_set
    holds = holders(groups, labels)
    stratum = divide_strata(holds)
    assert sorted(set(stratum)) == list(range(stratum.max() + 1))
    for present in np.unique(labels):
        assert any(holds[stratum == s, present].all() for s in set(stratum))


def test_a_class_that_only_occurs_with_rarer_ones_gets_part_of_their_stratum():
    # c (column 0) is the commonest class and always beside a rarer one: a or b.
    holds = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 0, 1], [0, 0, 1]], bool)
    stratum = divide_strata(holds)
    assert stratum[0] == stratum[1] != stratum[2]
    assert stratum[3] == stratum[4] == stratum[5] not in (stratum[0], stratum[2])


def test_groups_belong_to_their_rarest_class():
    holds = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 1]], bool)
    assert divide_strata(holds).tolist() == [0, 0, 0, 1, 1]


@settings(max_examples=150, deadline=None)
@given(test_sets)
def test_only_the_single_group_of_a_class_is_alone_in_its_stratum(test_set):
    """Any other would be in every resample once, and its part of the variance would be lost."""
    holds = holders(*test_set[::-1])
    stratum = join_single_groups(holds, divide_strata(holds))
    for number in set(stratum) if len(set(stratum)) > 1 else ():
        members = holds[stratum == number]
        assert len(members) > 1 or (members[0] & (holds.sum(0) == 1)).any()


def test_a_large_group_that_was_alone_counts_in_the_variance():
    """19 patients have both classes; one has only class a, with half of all images."""
    groups = np.repeat(np.arange(20), [*[40] * 19, 800])
    labels = np.where(groups < 19, np.arange(len(groups)) % 2, 0)
    right = np.where(groups < 19, np.random.default_rng(0).random(len(groups)) < 0.8, 0.3)
    p = np.stack([right, 1 - right], 1)
    p[labels == 1] = p[labels == 1, ::-1]
    p = np.where(p == 0.3, 0.1, np.where(p == 0.7, 0.9, p))[None]
    drawn = resample(labels, groups, ("a", "b"), seeds=1, count=4000)
    accuracy = resampled_metrics(drawn, p, areas=False)["accuracy"][:, 0]
    without = [(p.argmax(2)[0] == labels)[groups != one].mean() for one in range(20)]
    jackknife = np.sqrt(19 / 20 * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert accuracy[drawn.drawn].std() > 0.5 * jackknife


def test_weights_have_the_variance_of_a_mean():
    """The variance over resamples of a stratified total is that of the textbook: n s ** 2."""
    rng = np.random.default_rng(0)
    groups = np.arange(24)
    labels = (groups >= 5).astype(int)
    values = rng.normal(size=24)
    drawn = resample(labels, groups, ("a", "b"), seeds=3, count=40_000)
    totals = drawn.weights[drawn.drawn] @ values
    parts = values[:5], values[5:]
    expected = sum(len(part) * part.var(ddof=1) for part in parts)
    assert totals.var() == pytest.approx(expected, rel=0.03)
    assert totals.mean() == pytest.approx(values.sum(), abs=0.1)
    left_out = [(n - 1) * (drawn.weights[rows] @ values).var() for n, rows in drawn.left_out]
    assert left_out == pytest.approx([len(part) * part.var(ddof=1) for part in parts])
    per_seed = rng.normal(size=3)
    means = drawn.seeds @ per_seed / 2
    assert means.var() == pytest.approx(per_seed.var(ddof=1) / 3, rel=0.03)


def test_images_of_a_group_stay_together_and_their_order_does_not_matter():
    rng = np.random.default_rng(1)
    labels, groups = rng.integers(0, 4, 50), rng.choice(["p1", "p2", "p3", "p4", "p5"], 50)
    drawn = resample(labels, groups, NAMES, seeds=2, count=30)
    order = rng.permutation(50)
    again = resample(labels[order], groups[order], NAMES, seeds=2, count=30)
    np.testing.assert_array_equal(drawn.weights, again.weights)
    np.testing.assert_array_equal(drawn.seeds, again.seeds)
    assert drawn.weights.shape[1] == len(set(groups))


def test_without_groups_each_image_is_a_group():
    drawn = resample([0, 0, 1, 1, 1], None, ("a", "b"), seeds=1, count=10)
    assert drawn.weights.shape == (1 + 10 + 5, 5)
    assert (drawn.seeds == 1).all()


def test_the_random_state_decides_the_draw():
    arguments = ([0, 0, 1, 1, 1, 1], None, ("a", "b"))
    first, same, other = (
        resample(*arguments, seeds=3, count=50, random_state=state) for state in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.weights, same.weights)
    assert (first.weights != other.weights).any()


def test_few_groups_names_classes_and_counts():
    labels = np.repeat([0, 1, 2], [12, 30, 9])
    groups = np.concatenate([np.arange(12), np.arange(30) % 10, np.arange(9)])
    assert few_groups(labels, groups, NAMES[:3]) == {"c": 9}
    assert few_groups(labels, groups, NAMES) == {"c": 9}  # no average includes d
    assert few_groups(labels, None, NAMES[:3]) == {"c": 9}


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"groups": [0]}, "must be"), ({"seeds": 0}, "1 or more"), ({"count": 0}, "1 or more")],
)
def test_unfit_arrays_are_refused(changed, message):
    arguments = {"labels": [0, 1], "groups": [0, 1], "classes": NAMES, "seeds": 1, **changed}
    with pytest.raises(ValueError, match=message):
        resample(**arguments)


def test_seeds_that_do_not_vary_on_their_own_are_drawn_as_before():
    arguments = ([0, 0, 1, 1, 1, 1], None, ("a", "b"))
    tests = resample(*arguments, seeds=1, count=50)
    seeds = resample(*arguments, seeds=3, count=50, random_state=1)
    for sources in ([7, 7, 7], [-1, -1, -1]):
        found = cross_seeds(tests, [4, 5, 6], sources)
        np.testing.assert_array_equal(found.seeds, seeds.seeds)
        np.testing.assert_array_equal(found.weights, tests.weights)
        assert found.levels == 3
    assert (cross_seeds(tests, [4], [7]).seeds == 1).all()
    only_sources = cross_seeds(tests, [4, 4, 4, 4], [0, 1, 2, 3])
    assert only_sources.levels == 4
    assert (only_sources.seeds.sum(1) == 3).all()


def test_crossed_seeds_are_drawn_independently():
    tests = resample([0, 0, 1, 1], None, ("a", "b"), seeds=1, count=20_000)
    drawn = cross_seeds(tests, [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1])
    assert drawn.levels == 2
    by_seed, by_source = drawn.factors
    assert abs(np.corrcoef(by_seed[:, 0], by_source[:, 0])[0, 1]) < 0.03
    assert drawn.seeds.mean(0) == pytest.approx([1 / 3] * 6, abs=0.02)
