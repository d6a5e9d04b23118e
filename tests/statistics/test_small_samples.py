"""The smallest and the degenerate inputs of every interval and test: no certainty without data."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stagetransfer.statistics import (
    NATS,
    Interval,
    RatioSeries,
    area_interval,
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
    mcclish,
    mcnemar,
    needed,
    plan,
    resample,
    resample_cases,
    resampled_froc,
    resampled_metrics,
    resampled_roc,
    sentence,
    slope_interval,
)
from stagetransfer.statistics.data_needed import data_needed
from stagetransfer.statistics.power import MOST, POWER, power

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
    for rate in (0.01, 0.1, 0.5):
        parts = resampled_roc(drawn, positive, p[:, :, 0], lambda c, f=rate: c.area(f)[:, None])
        of_part, whole = parts[:, :, 0], areas[:, :, 0]
        defined = np.isfinite(of_part)
        assert (defined == np.isfinite(whole)).all()
        assert (of_part[defined] >= 0).all()
        assert (of_part[defined] <= np.minimum(rate, whole[defined]) + 1e-12).all()
        check(interval(drawn, of_part))
        check(interval(drawn, mcclish(of_part, rate)))
        check(difference(drawn, of_part, of_part))
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


@st.composite
def series(draw):
    """Resamples, and two conditions' runs at two to four ratios, of which some may be missing."""
    labels, groups, p = draw(studies())
    levels, rows = draw(st.integers(2, 4)), []
    drawn = cross_seeds(resample(labels, groups, NAMES, seeds=len(p), count=40), np.arange(len(p)))
    ratios = np.tile(np.linspace(0.2, 1, levels), len(p))
    seeds = np.repeat(np.arange(len(p)), levels)
    for skill in draw(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2)):
        values = resampled_metrics(drawn, np.repeat(p, levels, axis=0), areas=False)["accuracy"]
        values = values * (1 - skill * (1 - ratios))
        missing = draw(st.sets(st.integers(0, len(ratios) - 1), max_size=2))
        kept = [i for i in range(len(ratios)) if i not in missing]
        assume(np.bincount(seeds[kept], minlength=1).max() > 1)  # some seed has two ratios
        rows.append(RatioSeries(values[:, kept], ratios[kept], seeds[kept]))
    return drawn, *rows


@settings(max_examples=60, deadline=None)
@given(series())
def test_areas_below_lines_and_the_data_that_are_needed(study):
    drawn, a, b = study
    check(area_interval(drawn, a, highest=1.0))
    check(area_interval(drawn, a, b, highest=1.0))
    check(area_interval(drawn, a, a, highest=1.0))
    for found in (data_needed(drawn, a, b), data_needed(drawn, a, a)):
        ends = [found.low, found.estimate, found.high]
        if np.isnan(ends).any():
            assert np.isnan(ends).all()
            assert found.why
        else:
            assert ends == sorted(ends)
            assert all(end in (0, np.inf) or 0.2 <= end <= 1 for end in ends)
        assert np.isnan(found.p_value)


VARIANCE = st.just(0.0) | st.floats(-20, 0).map(lambda exponent: 10.0**exponent)


@settings(max_examples=150, deadline=None)
@given(VARIANCE, VARIANCE, st.floats(0, 1), st.integers(1, 4), st.integers(2, 9), st.floats(-1, 1))
def test_plans(of_seeds, of_groups, share, seeds, groups, estimate):
    of_seeds *= seeds > 1  # one seed does not vary
    least, most = sorted([of_seeds, of_groups])
    variances = (of_seeds, of_groups, most + share * least)  # as `intervals` bounds them
    assume(variances[2] > 0)
    result = Interval(estimate, -1.0, 1.0, 0.5, seeds, seeds > 1, variances=variances)
    found = needed(result, groups)
    assert found.detectable > 0
    for more, have, then in ((found.seeds, seeds, 0), (found.groups, groups, 1)):
        if more is not None:
            assert have <= more <= MOST
            planned = [seeds, groups]
            planned[then] = more
            assert power(estimate, variances, (seeds, groups), planned) >= POWER
    if (found.seeds, found.groups) == (seeds, groups):
        assert abs(estimate) >= 0.999 * found.detectable
    text = plan("a - b", result, groups, "patients")
    assert "nan" not in text
    assert "inf" not in text


@settings(max_examples=60, deadline=None)
@given(studies())
def test_plans_of_measured_differences(study):
    labels, groups, p = study
    drawn = cross_seeds(resample(labels, groups, NAMES, seeds=len(p), count=40), np.arange(len(p)))
    values = (resampled_metrics(drawn, of, areas=False)["accuracy"] for of in (p, np.roll(p, 1, 2)))
    found = difference(drawn, *values)
    if np.isfinite(found.low):
        count = len(drawn.strata)
        assert needed(found, count).detectable > 0
        assert "nan" not in plan("a - b", found, count, "images")


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
