"""Which runs of a study are compared, with which family, and with which resamples."""

import numpy as np
import pytest

from made_runs import gather_runs, make_run, make_sweep
from stagetransfer.errors import UserError
from stagetransfer.runs.run import Replicate
from stagetransfer.runs.study import Study
from stagetransfer.statistics import Interval, holm, interval, resample

FAILED = "scratch did not learn in 3 of 3 runs (constant output)"


def study_of(outputs, *conditions, count=200):
    found = gather_runs([outputs], conditions=conditions)
    return Study(found.runs, count, found.conditions)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Make a scratch that failed at r = 1 in all seeds, and at r = 0.5 in one."""
    outputs = tmp_path_factory.mktemp("sweep")
    make_sweep(outputs, ("natural", "texture", "two_stage"), (0.5, 1.0))
    for seed in range(3):
        make_run(outputs, "scratch", 1.0, seed, dead=True)
        make_run(outputs, "scratch", 0.5, seed, dead=seed == 1)
    return outputs


def test_a_comparison_with_a_run_that_did_not_learn_is_refused(sweep):
    study = study_of(sweep)
    for ratio, text in ((1.0, FAILED), (0.5, FAILED.replace("3 of 3", "1 of 3"))):
        for pair in study.pairs(ratio, ["accuracy", "auroc"]):
            if "scratch" in (pair.a, pair.b):
                assert pair.refusal == text
                assert not pair.mcnemar
                assert not pair.holm
                for result in pair.metrics.values():
                    numbers = [result.estimate, result.low, result.high, result.p_value]
                    assert np.isnan(numbers).all()
            else:
                assert not pair.refusal
                assert len(pair.mcnemar) == 3


def test_only_runs_that_are_in_the_comparison_count(tmp_path):
    make_sweep(tmp_path, ("scratch", "natural"), (1.0,), (0, 1))
    make_run(tmp_path, "scratch", seed=2, dead=True)
    match = study_of(tmp_path).match("natural", "scratch", 1.0)
    assert match.refusal == ""
    assert [of.seed for of in match.left_out] == [2]


def test_the_family_is_all_pairs_of_the_conditions_asked_for(sweep):
    everything, two = study_of(sweep), study_of(sweep, "texture", "two_stage")
    assert (everything.asked_for, two.asked_for) == (False, True)
    (pair,) = two.pairs(1.0, ["f1"])
    p_value = pair.metrics["f1"].p_value
    assert pair.holm["f1"] == p_value
    of_all = everything.pairs(1.0, ["f1"])
    assert len(of_all) == 6
    compared = [pair for pair in of_all if not pair.refusal]
    assert len(compared) == 3
    expected = holm([pair.metrics["f1"].p_value for pair in compared], 6)
    assert [pair.holm["f1"] for pair in compared] == pytest.approx(expected)
    for one in compared:  # the same numbers, whatever else lies in the folder
        if (one.a, one.b) == (pair.a, pair.b):
            assert one.metrics == pair.metrics


def test_a_condition_without_a_run_counts_and_is_named(sweep):
    study = study_of(sweep, "texture", "two_stage", "kylberg")
    assert study.asked == ["texture", "two_stage", "kylberg"]
    pairs = {(pair.a, pair.b): pair for pair in study.pairs(1.0, ["accuracy"])}
    assert len(pairs) == 3
    assert pairs["kylberg", "texture"].refusal == "kylberg has no finished run at r = 1"
    found = pairs["two_stage", "texture"]
    raw = found.metrics["accuracy"].p_value
    assert found.holm["accuracy"] == pytest.approx(min(1, 3 * raw))


def test_unknown_conditions_are_refused_in_one_line(sweep):
    with pytest.raises(UserError, match=r"--conditions a,b: .* Found: natural, scratch, texture"):
        study_of(sweep, "a", "b")


def test_a_condition_asked_for_has_all_its_depths(tmp_path):
    for layer in ("conv1", "conv4"):
        make_run(tmp_path, "natural", tune_from=layer)
    make_run(tmp_path, "scratch")
    make_run(tmp_path, "texture")
    assert study_of(tmp_path, "natural", "scratch").conditions == [
        "scratch", "natural conv1-fc8", "natural conv4-fc8",
    ]  # fmt: skip
    assert study_of(tmp_path, "natural conv4-fc8").conditions == ["natural conv4-fc8"]


@pytest.mark.parametrize("following", [False, True])
def test_with_one_source_seed_per_seed_only_seeds_are_resampled(tmp_path, following):
    for seed in (3, 5, 8):
        make_run(tmp_path, "scratch", seed=seed)
        make_run(tmp_path, "natural", seed=seed, source_seed=seed if following else 7)
    study = study_of(tmp_path)
    assert not study.crossed
    runs = study.at("natural")
    assert study.seeds_of(runs) == (Replicate(3), Replicate(5), Replicate(8))
    images = study.labels, study.groups, study.classes
    seeds = resample(*images, seeds=3, count=200, random_state=1)
    tests = resample(*images, seeds=1, count=200, random_state=0)
    ours = study.resamples(study.seeds_of(runs))
    np.testing.assert_array_equal(ours.seeds, seeds.seeds)
    np.testing.assert_array_equal(ours.weights, tests.weights)
    found = interval(ours, study.values(runs, "accuracy"))
    assert study.interval("natural", 1.0, "accuracy") == found.clipped()
    assert found.seeds == 3


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("crossed")
    for seed in (0, 1, 2):
        make_run(outputs, "scratch", seed=seed)
        for source in (4, 5):
            for condition in ("natural", "two_stage"):
                skill = 1.2 + 0.1 * seed + 0.2 * source
                key = f"{seed}{source}"
                make_run(outputs, condition, seed=seed, source_seed=source, skill=skill, key=key)
    return outputs


def test_runs_that_differ_in_the_source_seed_alone_are_reported_together(crossed):
    study = study_of(crossed)
    assert study.crossed
    match = study.match("two_stage", "natural", 1.0)
    assert match.seeds == tuple(Replicate(s, t) for s in (0, 1, 2) for t in (4, 5))
    assert [run.replicate for run in match.of_a] == [run.replicate for run in match.of_b]
    with_scratch = study.match("natural", "scratch", 1.0)
    assert with_scratch.seeds == match.seeds
    assert [run.seed for run in with_scratch.of_b] == [0, 0, 1, 1, 2, 2]
    assert study.seeds_of(study.at("scratch")) == tuple(Replicate(s) for s in (0, 1, 2))
    assert study.interval("natural", 1.0, "accuracy").seeds == 2  # the fewer of 3 and 2
    assert study.interval("scratch", 1.0, "accuracy").seeds == 3
    pair = study.pair("natural", "scratch", 1.0, ["accuracy"])
    of = {name: [run.metrics["accuracy"] for run in study.at(name)] for name in study.conditions}
    expected = np.mean(of["natural"]) - np.mean(of["scratch"])
    assert pair.metrics["accuracy"].estimate == pytest.approx(expected)
    assert list(map(str, pair.mcnemar)) == ["0/4", "0/5", "1/4", "1/5", "2/4", "2/5"]


def test_a_run_counts_as_often_as_its_seed_times_its_source_seed_is_drawn(crossed):
    study = study_of(crossed)
    ours = study.resamples([Replicate(s, t) for s in (0, 1, 2) for t in (4, 5)])
    by_seed, by_source = ours.factors
    np.testing.assert_array_equal(ours.seeds, by_seed * by_source)
    assert (by_seed[:, 0::2] == by_seed[:, 1::2]).all()
    assert (by_source[:, :2] == by_source[:, 2:4]).all()
    assert (by_seed[:, 0::2].sum(1) == 2).all()  # of 3 seeds 2 are drawn, of 2 source seeds 1
    assert (by_source[:, :2].sum(1) == 1).all()
    assert ours.levels == 2


def test_an_incomplete_crossing_is_compared_on_what_both_have(crossed, tmp_path):
    folders = [x for x in (crossed / "runs").iterdir() if x.name != "natural-r1-s2-25"]
    found = gather_runs(folders)
    study = Study(found.runs, 200)
    pair = study.pair("two_stage", "natural", 1.0, ["accuracy"])
    assert len(pair.seeds) == 5
    assert pair.left_out == (Replicate(2, 5),)
    result = pair.metrics["accuracy"]
    assert np.isfinite([result.low, result.high]).all()
    assert result.low <= result.high


def test_an_undefined_interval_has_no_number():
    assert np.isnan(Interval.undefined().estimate)
