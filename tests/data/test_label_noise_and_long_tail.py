"""Wrong training labels and a long tail: exact, nested, hashed, and in training alone."""

import logging

import numpy as np
import pytest

from data.test_datamodule import read
from stagetransfer.data import TargetDataModule
from stagetransfer.data.label_noise import with_wrong_labels
from stagetransfer.data.subset import long_tail, subset_by_image
from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples
from stagetransfer.pipeline.stage_record import data_entry

EMBEDDED = {"name": "target", "layout": "embedded", "options": {"scale": 0.5}}
TRAIN = np.arange(0, 600, 2)


def table(count=600, classes=4):
    labels = np.arange(count) // 2 % classes
    images = np.zeros((count, 2, 2), np.uint8)
    names = tuple("abcd"[:classes])
    return Samples(images, [str(i) for i in range(count)], labels, names)


def target(**settings):
    return read(TargetDataModule, **EMBEDDED, **settings)


@pytest.fixture(scope="module")
def plain():
    return target()


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.9])
def test_the_share_of_each_class_is_exact_and_the_wrong_class_is_drawn_evenly(rate):
    samples = table()
    found = with_wrong_labels(samples, TRAIN, rate, 3).labels
    for label in range(4):
        own = TRAIN[samples.labels[TRAIN] == label]
        wrong = found[own][found[own] != label]
        assert len(wrong) == int(rate * len(own) + 0.5)
        shares = np.bincount(wrong, minlength=4)[np.arange(4) != label] / len(wrong)
        assert shares == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / len(wrong)))
    others = np.setdiff1d(np.arange(600), TRAIN)
    assert np.array_equal(found[others], samples.labels[others])


def test_a_higher_rate_keeps_the_wrong_labels_of_a_lower_one():
    samples = table()
    few, many = (with_wrong_labels(samples, TRAIN, rate, 3).labels for rate in (0.1, 0.4))
    wrong = few != samples.labels
    assert np.array_equal(few[wrong], many[wrong])
    other = with_wrong_labels(samples, TRAIN, 0.1, 4).labels
    assert not np.array_equal(few, other)


@pytest.mark.parametrize("tail", [1.0, 0.5, 0.1, 0.001])
def test_classes_fall_exponentially_and_none_disappears(tail):
    labels = np.repeat(np.arange(4), [30, 120, 60, 60])
    kept = long_tail(labels, np.arange(270), tail, 0)
    shares = {1: 1, 2: tail ** (1 / 3), 3: tail ** (2 / 3), 0: tail}
    counts = np.bincount(labels[kept], minlength=4)
    for label, share in shares.items():
        assert counts[label] == max(int(share * (labels == label).sum() + 0.5), 1)
    assert np.array_equal(kept, np.unique(kept))


def test_tails_are_nested_in_each_other_and_in_the_ratio():
    labels = np.repeat(np.arange(3), [40, 30, 20])
    whole, half = np.arange(90), subset_by_image(labels, 0.5, 7, ("a", "b", "c"))
    long, short = (set(long_tail(labels, whole, tail, 7)) for tail in (0.5, 0.1))
    assert short < long
    assert set(long_tail(labels, half, 0.5, 7)) < {*half}
    assert set(long_tail(labels, half, 0.5, 7)) <= long


def test_only_training_labels_change(plain):
    noisy = target(label_noise=0.2)
    for split in ("validation", "test"):
        assert np.array_equal(noisy.labels(split), plain.labels(split))
    changed = (noisy.labels("train") != plain.labels("train")).sum()
    assert noisy.wrong_labels == changed
    expected = sum(int(0.2 * n + 0.5) for n in plain.count_by_class("train").values())
    assert changed == expected
    assert np.array_equal(noisy.rows["train"], plain.rows["train"])
    shown = noisy.image_set("train").__getitems__(range(noisy.count("train"))).labels
    assert np.array_equal(shown, noisy.labels("train"))
    at_half = target(label_noise=0.2, ratio=0.5)
    both, of_half, of_whole = np.intersect1d(
        at_half.rows["train"], noisy.rows["train"], return_indices=True
    )
    assert len(both) == at_half.count("train")
    assert np.array_equal(at_half.labels("train")[of_half], noisy.labels("train")[of_whole])


def test_only_training_images_leave(plain):
    tailed = target(long_tail=0.1)
    for split in ("validation", "test"):
        assert np.array_equal(tailed.rows[split], plain.rows[split])
    counts, before = tailed.count_by_class("train"), plain.count_by_class("train")
    kept = sorted(counts[name] / before[name] for name in counts)
    assert kept == pytest.approx([0.1 ** (k / 6) for k in range(6, -1, -1)], abs=0.06)
    assert {*tailed.rows["train"]} < {*plain.rows["train"]}


def test_they_are_hashed_only_if_they_do_something(plain):
    assert target(label_noise=0.0, long_tail=1.0).identity() == plain.identity()
    assert not {"label_noise", "long_tail"} & {*plain.identity()}
    seen = [plain.identity()]
    for settings in ({"label_noise": 0.2}, {"label_noise": 0.1}, {"long_tail": 0.2}):
        data = target(**settings)
        assert data.fingerprint == plain.fingerprint
        assert data.input_identity() == plain.input_identity()
        assert data.identity() not in seen
        seen.append(data.identity())


@pytest.mark.parametrize(
    "settings", [{"label_noise": 1.0}, {"label_noise": 1.2}, {"long_tail": 0.0}]
)
def test_impossible_values_are_named(settings):
    (name,) = settings
    with pytest.raises(UserError, match=rf"domain\.target\.{name}"):
        target(**settings)


@pytest.mark.parametrize("settings", [{"label_noise": 0.2}, {"long_tail": 0.5}])
def test_only_the_target_may_have_them(settings):
    (name,) = settings
    with pytest.raises(UserError, match=rf"domain\.natural\.{name}"):
        read(TargetDataModule, name="natural", layout="embedded", is_target=False, **settings)


def test_both_are_logged_and_recorded(caplog):
    data = target(label_noise=0.2, long_tail=0.5)
    with caplog.at_level(logging.WARNING):
        data.log_doubts()
    count = data.count("train")
    assert f"{data.wrong_labels} of {count} training labels are wrong" in caplog.text
    assert "after long_tail" in caplog.text
    seen = (np.arange(7), np.zeros(7, np.int64), np.ones((7, 7)) / 7)
    entry = data_entry(data, seen, seen)
    assert (entry["num_test"], entry["num_validation"]) == (7, 7)
    wanted = {"label_noise": 0.2, "long_tail": 0.5, "num_wrong_labels": data.wrong_labels}
    assert wanted.items() <= entry.items()
    assert 0.1 < data.wrong_labels / count < 0.3
