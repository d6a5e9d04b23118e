"""The smallest and the degenerate inputs of every interval and test: no certainty without data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagetransfer.statistics import (
    NATS,
    RatioSeries,
    classification_metrics,
    collect_detections,
    cross_seeds,
    delong,
    delong_difference,
    difference,
    ece_interval,
    fit_line,
    fit_temperature,
    froc,
    holm,
    interval,
    macro_recall_interval,
    mcnemar,
    resample,
    resample_cases,
    resampled_froc,
    resampled_metrics,
    resampled_roc,
    sentence,
    slope_interval,
)

NAMES = ("a", "b", "c")


def check(found):
    """Either an interval of some width with a p-value above 0, or none and a reason."""
    ends = np.array([found.low, found.high, found.p_value])
    if np.isfinite(ends).all():
        assert found.low < found.high
        assert 0 < found.p_value <= 1
        assert not found.why
    else:
        assert np.isnan(ends).all()
        assert found.why or np.isnan(found.estimate)


@st.composite
def studies(draw):
    """Labels, groups and the probabilities of S seeds for 1 to 12 images, often all alike."""
    n, seeds = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    labels = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    groups = draw(st.none() | st.lists(st.integers(0, 3), min_size=n, max_size=n))
    kind = draw(st.sampled_from(["random", "right", "constant", "tied"]))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    scores = {
        "random": random.random((seeds, n, 3)),
        "right": np.broadcast_to(np.eye(3)[labels] + 0.1, (seeds, n, 3)),
        "constant": np.broadcast_to([0.7, 0.2, 0.1], (seeds, n, 3)),
        "tied": random.integers(1, 3, (seeds, n, 3)).astype(float),
    }[kind]
    return labels, groups, scores / scores.sum(-1, keepdims=True)


@settings(max_examples=150, deadline=None)
@given(studies())
def test_metrics_and_their_differences(study):
    labels, groups, p = study
    drawn = cross_seeds(resample(labels, groups, NAMES, seeds=len(p), count=40), np.arange(len(p)))
    values = resampled_metrics(drawn, p)
    other = resampled_metrics(drawn, np.roll(p, 1, axis=2))
    for name in values:
        check(interval(drawn, values[name]))
        check(difference(drawn, values[name], other[name]))
        check(difference(drawn, values[name], values[name]))
    check(ece_interval(drawn, p))
    for one in p:
        recall, low, high = macro_recall_interval(labels, one.argmax(1), groups, 3)
        assert low < high
        assert 0 <= low <= recall <= high <= 1
        found = classification_metrics(labels, one, NAMES)
        assert found["classes_averaged"] == len(np.unique(labels))
        assert (found["auroc"] is None) == (len(np.unique(labels)) < 2)
        test = mcnemar(labels, one.argmax(1), p[0].argmax(1))
        assert 0 < test.p_value <= 1
    assert np.isfinite(fit_temperature(labels, np.log(p[0])))


@settings(max_examples=150, deadline=None)
@given(studies())
def test_areas(study):
    labels, groups, p = study
    positive = labels == 0
    if positive.all() or not positive.any():
        return
    drawn = cross_seeds(
        resample(positive.astype(int), groups, ("no", "yes"), seeds=len(p), count=40),
        np.arange(len(p)),
    )
    areas = resampled_roc(drawn, positive, p[:, :, 0], lambda curve: curve.area()[:, None])
    check(interval(drawn, areas[:, :, 0]))
    if min(positive.sum(), (~positive).sum()) > 1:
        check(delong(positive, p[:, :, 0]))
        check(delong_difference(positive, p[:, :, 0], p[:, :, 1]))
        check(delong_difference(positive, p[:, :, 0], p[:, :, 0]))


@settings(max_examples=100, deadline=None)
@given(studies(), st.integers(1, 4))
def test_lines(study, levels):
    labels, groups, p = study
    ratios = np.tile(np.linspace(0.2, 1, levels + 1), len(p))
    seeds = np.repeat(np.arange(len(p)), levels + 1)
    drawn = cross_seeds(resample(labels, groups, NAMES, seeds=len(p), count=40), np.arange(len(p)))
    values = resampled_metrics(drawn, np.repeat(p, levels + 1, axis=0), areas=False)["accuracy"]
    runs = RatioSeries(values * ratios, ratios, seeds)
    check(slope_interval(drawn, runs))
    check(slope_interval(drawn, runs, RatioSeries(values, ratios, seeds)))
    line = fit_line(ratios, values[0] * ratios)
    for p_value in (line.p_value, line.lack_of_fit_p):
        assert np.isnan(p_value) or 0 < p_value <= 1
    assert np.isnan(line.low) or line.low < line.high


@pytest.mark.parametrize("cases", [1, 2, 5])
def test_free_response_curves(cases):
    names = [f"case{i}" for i in range(cases)]
    found = collect_detections(names, ["1"] * cases, [0.9] * cases, all_lesions=[
        (name, "1") for name in names
    ])  # fmt: skip
    drawn = resample_cases(found, count=40)
    values = resampled_froc(drawn, found, lambda curve: curve.sensitivity_at([1.0]))[:, :, 0]
    assert froc(found).sensitivity[0, -1] == 1
    check(interval(drawn, values))


def test_one_patient_per_class_is_no_evidence():
    labels, groups = [0] * 4 + [1] * 4, ["patient_a"] * 4 + ["patient_b"] * 4
    p = np.array([[[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 4, [[0.9, 0.1]] * 8])
    drawn = resample(labels, groups, ("a", "b"), seeds=1, count=200)
    values = resampled_metrics(drawn, p)
    found = difference(drawn, values["accuracy"][:, 1:], values["accuracy"][:, :1])
    assert found.estimate == -0.5
    assert np.isnan([found.low, found.high, found.p_value]).all()
    assert found.why == "only one group (patient) in a, b"
    text = sentence("second", "first", found)
    assert "evidence" not in text
    assert "not estimable" in text


def test_a_class_with_one_patient_leaves_the_others_their_intervals():
    labels = np.array([0] * 20 + [1] * 20 + [2] * 2)
    groups = [*range(40), 99, 99]
    random = np.random.default_rng(0)
    p = random.dirichlet([1, 1, 1], (1, 42))
    drawn = resample(labels, groups, NAMES, seeds=1, count=200)
    values = resampled_metrics(drawn, p)
    assert drawn.alone == ("c",)
    assert interval(drawn, values["recall:a"]).low < interval(drawn, values["recall:a"]).high
    for name in ("recall:c", "recall", "accuracy", "cross_entropy"):
        assert interval(drawn, values[name]).why == "only one group (patient) in c"


def test_a_loss_without_interval_is_shown_with_its_reason():
    drawn = resample([0, 1], None, ("a", "b"), seeds=1, count=20)
    values = resampled_metrics(drawn, [[[0.9, 0.1], [0.3, 0.7]]])["cross_entropy"]
    found = difference(drawn, values, values - 0.25)
    assert "+0.250 nats; its interval is not estimable" in sentence("x", "y", found, unit=NATS)


def test_holm_keeps_what_is_not_estimable():
    assert np.isnan(holm([np.nan, 0.01], 2)[0])
    assert holm([np.nan, 0.01], 2)[1] == pytest.approx(0.02)
