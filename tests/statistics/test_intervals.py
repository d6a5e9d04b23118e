from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from statsmodels.stats.multitest import multipletests

from stagetransfer.statistics import (
    classification_metrics,
    difference,
    holm,
    interval,
    resample,
    resampled_metrics,
)
from stagetransfer.statistics.intervals import NO_SPREAD

NAMES = ("CON", "GGO", "NOR")
MACRO = ("accuracy", "precision", "recall", "f1", "cross_entropy", "auroc")


def study(seed, n=90, runs=3, groups=20, skill=1.0):
    """Labels, groups (n,) and probabilities (runs, n, 3), in hundredths so that some are equal."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(3), rng.integers(0, 3, n - 3)])
    logits = rng.normal(size=(runs, n, 3)) + skill * np.eye(3)[labels]
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    return labels, rng.integers(0, groups, n), np.round(p, 2)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_each_draw_agrees_with_scikit_learn(seed):
    labels, groups, p = study(seed)
    drawn = resample(labels, groups, NAMES, seeds=3, count=4, random_state=seed)
    found = resampled_metrics(drawn, p)
    for row, run in product(range(5), range(3)):
        weight = drawn.weights[row, drawn.groups]
        prediction = p[run].argmax(1)
        kwargs = {"sample_weight": weight, "zero_division": 0, "labels": [0, 1, 2]}
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            labels, prediction, **kwargs
        )
        auroc = [
            metrics.roc_auc_score(labels == i, p[run, :, i], sample_weight=weight) for i in range(3)
        ]
        of_label = np.clip(p[run, np.arange(len(labels)), labels], 2**-52, None)
        expected = {
            "accuracy": metrics.accuracy_score(labels, prediction, sample_weight=weight),
            "cross_entropy": np.average(-np.log(of_label), weights=weight),
        }
        by_class = {"precision": precision, "recall": recall, "f1": f1, "auroc": auroc}
        for name, values in by_class.items():
            expected[name] = np.mean(values)
            expected |= {f"{name}:{of}": values[i] for i, of in enumerate(NAMES)}
        assert {name: found[name][row, run] for name in found} == pytest.approx(expected, abs=1e-9)


def test_row_0_gives_the_metrics_of_the_run():
    labels, groups, p = study(0)
    drawn = resample(labels, groups, NAMES, seeds=3, count=50)
    found = resampled_metrics(drawn, p)
    for name in MACRO:
        expected = [classification_metrics(labels, run, NAMES)[name] for run in p]
        assert found[name][0] == pytest.approx(expected, abs=1e-12)
        assert interval(drawn, found[name]).estimate == pytest.approx(np.mean(expected), abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_images_and_names_of_groups_do_not_matter(seed):
    labels, groups, p = study(seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    renamed = np.array([f"patient {group:03}" for group in groups])
    results = []
    for y, g, q in (
        (labels, groups, p),
        (labels[order], groups[order], p[:, order]),
        (labels, renamed, p),
    ):
        drawn = resample(y, g, NAMES, seeds=3, count=100)
        found = resampled_metrics(drawn, q)
        results.append([interval(drawn, found[name]) for name in MACRO])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert (a.estimate, a.low, a.high, a.p_value) == pytest.approx(
                (b.estimate, b.low, b.high, b.p_value), abs=1e-9
            )


def test_shuffled_group_names_act_like_another_random_state():
    labels, groups, p = study(3, n=400, groups=60)
    found = []
    for names in (groups, np.random.default_rng(0).permutation(60)[groups]):
        drawn = resample(labels, names, NAMES, seeds=3, count=4000)
        found.append(interval(drawn, resampled_metrics(drawn, p)["accuracy"]))
    a, b = found
    assert a.estimate == pytest.approx(b.estimate, abs=1e-12)
    width = a.high - a.low
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.08 * width)


def test_independent_images_and_one_seed_give_the_textbook_interval():
    """Accuracy with each image its own group, of one class: a mean of n, with n - 1 degrees."""
    labels, prediction = np.zeros(400, int), np.arange(400) % 4 == 0
    drawn = resample(labels, None, ("a", "b"), seeds=1, count=20_000)
    found = interval(
        drawn, resampled_metrics(drawn, np.eye(2)[prediction.astype(int)][None])["accuracy"]
    )
    half = stats.t.ppf(0.975, 399) * (~prediction).std(ddof=1) / 20
    assert found.estimate == 0.75
    assert found.high - found.low == pytest.approx(2 * half, rel=0.03)
    assert found.p_value == pytest.approx(2 / 20_001)
    assert (found.seeds, found.seeds_resampled) == (1, False)


def test_many_groups_and_one_seed_give_the_interval_of_scipys_bootstrap():
    """Groups of four images that are right or wrong together more often than not; a difference."""
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(200), 4)
    ease = rng.normal(size=200)[groups]
    right = [ease + rng.normal(size=800) + skill > 0 for skill in (0.9, 0.5)]
    drawn = resample(np.zeros(800, int), groups, ("a", "b"), seeds=1, count=4000)
    runs = (resampled_metrics(drawn, np.eye(2)[1 - of.astype(int)][None]) for of in right)
    a, b = (figures["accuracy"] for figures in runs)
    found = difference(drawn, a, b)
    of_groups = np.reshape(right[0].astype(float) - right[1], (200, 4)).mean(1)
    theirs = stats.bootstrap(
        (of_groups,), np.mean, n_resamples=4000, method="percentile", rng=rng
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(
        (theirs.low, theirs.high), abs=0.06 * (theirs.high - theirs.low)
    )


def test_seeds_alone_give_the_width_of_students_t():
    """All images of a run are right or wrong together, so groups add nothing."""
    labels = np.zeros(30, int)
    drawn = resample(labels, None, ("a", "b"), seeds=4, count=4000)
    values = np.broadcast_to([0.1, 0.2, 0.4, 0.9], (len(drawn.weights), 4))
    found = interval(drawn, values)
    spread = np.std([0.1, 0.2, 0.4, 0.9], ddof=1) / 2
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 3) * spread, rel=0.05)
    assert found.seeds_resampled
    # The largest value lies farthest out, so the draws and the interval reach farther up.
    assert found.high - found.estimate > found.estimate - found.low


def test_the_interaction_counts_once():
    """Right or wrong at random in each image and each seed: the variance of S n coins."""
    rng = np.random.default_rng(5)
    widths = []
    for _ in range(40):
        p = np.eye(2)[rng.integers(0, 2, (8, 200))]
        drawn = resample(np.zeros(200, int), None, ("a", "b"), seeds=8, count=400)
        found = interval(drawn, resampled_metrics(drawn, p)["accuracy"])
        widths.append(found.high - found.low)
    expected = 2 * 1.96 * 0.5 / np.sqrt(1600)
    assert expected < np.mean(widths) < 1.45 * expected  # three times would be sqrt(3) = 1.73


def test_the_difference_of_a_run_and_itself_is_zero():
    labels, groups, p = study(1)
    drawn = resample(labels, groups, NAMES, seeds=3, count=200)
    a = resampled_metrics(drawn, p)["f1"]
    found = difference(drawn, a, a)
    assert (found.estimate, found.why) == (0, NO_SPREAD)
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_the_difference_is_paired():
    """Two conditions that err on the same images differ far more surely than their intervals
    let one think."""
    labels, groups, p = study(2, n=300, groups=60)
    better = p.copy()
    wrong = (p.argmax(2) != labels).all(0)
    better[:, np.nonzero(wrong)[0][:25]] = np.eye(3)[labels[np.nonzero(wrong)[0][:25]]]
    drawn = resample(labels, groups, NAMES, seeds=3, count=999)
    a, b = (resampled_metrics(drawn, q)["accuracy"] for q in (better, p))
    found = difference(drawn, a, b)
    assert found.estimate == pytest.approx(min(25, wrong.sum()) / 300)
    assert found.low > 0
    assert found.p_value < 0.01
    assert interval(drawn, a).low < interval(drawn, b).high
    back = difference(drawn, b, a)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.sampled_from([99, 100, 399, 2000]))
def test_p_value_and_interval_agree(seed, count):
    labels, groups, p = study(seed, skill=0.6)
    _, _, q = study(seed, skill=1.1)
    drawn = resample(labels, groups, NAMES, seeds=3, count=count)
    a, b = (resampled_metrics(drawn, x)["recall"] for x in (p, q))
    found = difference(drawn, a, b)
    assert 0 < found.p_value <= 1
    assert (found.p_value <= 0.05) == (found.low > 0 or found.high < 0)


def test_an_undefined_metric_is_nan():
    labels = np.array([0, 0, 1, 1])
    drawn = resample(labels, None, NAMES, seeds=2, count=20)  # no image of NOR
    found = resampled_metrics(drawn, np.full((2, 4, 3), 1 / 3))
    assert interval(drawn, found["auroc"]).estimate == 0.5  # of the two classes that occur
    assert interval(drawn, found["auroc:CON"]).estimate == 0.5
    assert interval(drawn, found["recall"]).estimate == pytest.approx(1 / 2)
    for name in ("precision", "recall", "f1", "auroc"):
        assert np.isnan(interval(drawn, found[f"{name}:NOR"]).estimate)


def test_another_number_of_runs_than_of_seeds_is_refused():
    labels, groups, p = study(0)
    drawn = resample(labels, groups, NAMES, seeds=2, count=20)
    with pytest.raises(ValueError, match="2 runs"):
        interval(drawn, resampled_metrics(drawn, p)["f1"])
    with pytest.raises(ValueError, match="probabilities must be"):
        resampled_metrics(drawn, p[0])


@settings(max_examples=15, deadline=None)  # statsmodels takes a tenth of a second for each
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values, len(p_values)) == pytest.approx(list(expected), abs=1e-9)


def test_holm_of_an_empty_list():
    assert holm([], 3) == []


def test_holm_counts_the_tests_that_could_not_be_made():
    nan = float("nan")
    expected = multipletests([0.004, 0.03, 0.01, 1, 1, 1], method="holm")[1][:3]
    found = holm([0.004, nan, 0.03, 0.01], 6)
    assert [found[i] for i in (0, 2, 3)] == pytest.approx(list(expected))
    assert np.isnan(found[1])
    with pytest.raises(ValueError, match="3 or more"):
        holm([0.1, nan, 0.2, 0.3], 2)
