import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stagetransfer.statistics import (
    CPM,
    collect_detections,
    difference,
    froc,
    interval,
    resample_cases,
    resampled_froc,
)
from stagetransfer.statistics.intervals import NO_SPREAD

ALL = [("a", "1"), ("a", "2"), ("b", "1"), ("c", ""), ("d", "1"), ("e", "")]
# d's lesion is missed and d, e have no candidate; a's lesion 1 is hit twice.
CANDIDATES = [
    ("a", "1", 0.9),
    ("a", "", 0.8),
    ("a", "1", 0.7),
    ("b", "1", 0.6),
    ("c", "", 0.6),
    ("a", "2", 0.5),
    ("b", "", 0.4),
    ("c", "", 0.3),
]


def system(candidates=CANDIDATES, known=ALL):
    cases, lesions, scores = zip(*candidates, strict=True) if candidates else ((), (), ())
    return collect_detections(cases, lesions, scores, all_lesions=known)


def test_the_example_by_hand():
    curve = froc(system())
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.6, 0.5, 0.4, 0.3]
    assert curve.false_positives[0] == pytest.approx([0, 0, 0.2, 0.4, 0.4, 0.6, 0.8])
    assert curve.sensitivity[0] == pytest.approx([0, 0.25, 0.25, 0.5, 0.75, 0.75, 0.75])
    rates = [0, 0.1, 0.2, 0.3, 0.4, 0.8, 8]
    expected = [0.25, 0.25, 0.25, 0.375, 0.75, 0.75, 0.75]
    assert curve.sensitivity_at(rates)[0] == pytest.approx(expected)


def test_a_system_without_candidates_finds_nothing():
    assert froc(system([])).sensitivity_at(CPM)[0].tolist() == [0] * 7


@st.composite
def studies(draw):
    """All lesions, and candidates with some scores equal."""
    counts = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6).filter(any))
    known = [(f"c{i}", str(j) if n else "") for i, n in enumerate(counts) for j in range(max(n, 1))]
    places = known + [(case, "") for case, _ in known]
    pick = st.tuples(st.sampled_from(places), st.integers(0, 6))
    return known, [(*place, score / 4) for place, score in draw(st.lists(pick, max_size=20))]


def brute_force(known, candidates, weight):
    """(threshold, false positives per case, sensitivity), each counted again at each threshold."""
    total = sum(weight[case] for case, lesion in known if lesion)
    points = []
    for t in [np.inf, *sorted({score for *_, score in candidates}, reverse=True)]:
        called = [(case, lesion) for case, lesion, score in candidates if score >= t]
        false = sum(weight[case] for case, lesion in called if not lesion)
        hits = sum(weight[case] for case, _ in {place for place in called if place[1]})
        points.append((t, false / sum(weight.values()), hits / total))
    return np.transpose(points)


@settings(max_examples=60, deadline=None)
@given(study=studies(), seed=st.integers(0, 100))
def test_the_curve_equals_a_brute_force_reference(study, seed):
    known, candidates = study
    found = system(candidates, known)
    weights = np.random.default_rng(seed).integers(1, 4, (3, len(found.cases)))
    curves = froc(found, weights)
    for row, of_cases in enumerate(weights.tolist()):
        expected = brute_force(known, candidates, dict(zip(found.cases, of_cases, strict=True)))
        # A second, lower hit of a lesion is a threshold there, but no other point.
        same = np.isin(expected[0], curves.thresholds)
        np.testing.assert_allclose(curves.false_positives[row], expected[1, same], atol=1e-12)
        np.testing.assert_allclose(curves.sensitivity[row], expected[2, same], atol=1e-12)
        assert len({*zip(*expected[1:], strict=True)}) == len(
            {*zip(*expected[1:, same], strict=True)}
        )
        at = np.interp(CPM, expected[1], expected[2])
        np.testing.assert_allclose(curves.sensitivity_at(CPM)[row], at, atol=1e-9)


def simulated(rng, num_cases=60, skill=1.5, other=None):
    """Half the cases have 1 to 3 lesions of one difficulty; about 2 false positives per case."""
    known, candidates = [], []
    for i in range(num_cases):
        lesions = [str(j) for j in range(1 + i % 3)] if i % 2 else [""]
        known += [(f"{i:03}", lesion) for lesion in lesions]
        ease = rng.normal()
        candidates += [
            (f"{i:03}", lesion, skill + ease * 0.7 + 0.7 * rng.normal())
            for lesion in lesions
            if lesion
        ]
        candidates += [(f"{i:03}", "", rng.normal()) for _ in range(rng.poisson(2))]
    return known, candidates


def at_one(resamples, found):
    return resampled_froc(resamples, found, lambda curve: curve.sensitivity_at([0.5]))[:, :, 0]


def test_the_interval_over_cases_contains_the_true_value_and_is_no_wider_than_needed():
    rng = np.random.default_rng(0)
    known, candidates = simulated(rng, 6000)
    truth = froc(system(candidates, known)).sensitivity_at([0.5])[0, 0]
    estimates, results = [], []
    for study in range(500):
        known, candidates = simulated(rng)
        found = system(candidates, known)
        estimates.append(froc(found).sensitivity_at([0.5])[0, 0])
        if study < 120:
            drawn = resample_cases(found, count=200)
            results.append(interval(drawn, at_one(drawn, found)))
    assert np.mean([of.low <= truth <= of.high for of in results]) >= 0.9
    needed = 2 * stats.t.ppf(0.975, 29) * np.std(estimates)
    assert np.mean([of.high - of.low for of in results]) == pytest.approx(needed, rel=0.15)


def test_two_systems_are_compared_in_pairs():
    rng = np.random.default_rng(2)
    known, candidates = simulated(rng, 80)
    better = [(c, lesion, s + 0.8 * bool(lesion)) for c, lesion, s in candidates]
    a, b = system(better, known), system(candidates, known)
    drawn = resample_cases(a, count=999)
    found = difference(drawn, at_one(drawn, a), at_one(drawn, b))
    points = [froc(of).sensitivity_at([0.5])[0, 0] for of in (a, b)]
    assert found.estimate == pytest.approx(points[0] - points[1])
    assert found.low > 0
    same = difference(drawn, at_one(drawn, a), at_one(drawn, system(better[::-1], known)))
    assert same.estimate == pytest.approx(0, abs=1e-12)
    assert same.why == NO_SPREAD


@pytest.mark.parametrize(
    ("candidates", "known", "message"),
    [
        ([("x", "", 1.0)], ALL, "case 'x' of a candidate"),
        ([("b", "2", 1.0)], ALL, "lesion '2' of a candidate in case 'b'"),
        ([("b", "1", np.nan)], ALL, "case 'b' has no finite score"),
        ([], [*ALL, ("a", "2")], "lesion '2' of case 'a' is listed twice"),
        ([], [("a", "")], "no lesion"),
    ],
)
def test_inconsistent_lists_are_refused(candidates, known, message):
    with pytest.raises(ValueError, match=message):
        system(candidates, known)
