"""Simulated studies: how often does the 95 % interval hold the truth?

An image is classified rightly if base + seed + patient + patient of this seed + image > 0, all of
them normal; so the true accuracy (and each class's recall) is known, for a ratio and a condition.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from stagetransfer.statistics import (
    RatioSeries,
    cross_seeds,
    difference,
    interval,
    resample,
    resampled_metrics,
    slope_interval,
)

RATIOS = np.array([0.2, 0.6, 1.0])


@dataclass
class World:
    """A hypothetical population of seeds and patients, and the size of the studies of it."""

    seeds: int
    classes: int = 4
    patients: int = 12  # of each class
    images: int = 6  # of each patient
    by_seed: float = 0.1  # standard deviations, with 1 for the image itself
    by_patient: float = 0.5
    by_both: float = 0.2

    def truth(self, base):
        total = 1 + self.by_seed**2 + self.by_patient**2 + self.by_both**2
        return ndtr(np.asarray(base) / np.sqrt(total))

    def study(self, rng, bases):
        """Labels and patients (n,), probabilities (len(bases), S, n, C) of runs that share
        patients and images, and differ in all that comes with a seed."""
        groups = np.repeat(np.arange(self.classes * self.patients), self.images)
        labels = groups // self.patients
        several, n = (len(bases), self.seeds), len(labels)
        score = np.reshape(bases, (-1, 1, 1)) + rng.normal(0, self.by_seed, (*several, 1))
        score = score + rng.normal(0, self.by_patient, groups.max() + 1)[groups]
        score += rng.normal(0, self.by_both, (*several, groups.max() + 1))[..., groups]
        score += np.sqrt(0.5) * (rng.normal(size=n) + rng.normal(size=(*several, n)))
        wrong = (labels + rng.integers(1, self.classes, score.shape)) % self.classes
        prediction = np.where(score > 0, labels, wrong)
        return labels, groups, np.eye(self.classes)[prediction]


def one_study(world, rng, number):
    """Which intervals hold the truth: name to True or False."""
    bases = [0.7, 1.0, 1.2, 1.4, 1.4, 1.4]  # a at three ratios; b too, whose line is flat
    labels, groups, probabilities = world.study(rng, bases)
    classes = [f"class{i}" for i in range(world.classes)]
    resamples = resample(labels, groups, classes, seeds=world.seeds, count=399, random_state=number)
    flat = probabilities.reshape(-1, *probabilities.shape[2:])
    found = resampled_metrics(resamples, flat)
    truth = world.truth(bases)
    ratios, seeds = np.repeat(RATIOS, world.seeds), np.tile(np.arange(world.seeds), 3)
    half = 3 * world.seeds
    a, b = (RatioSeries(found["accuracy"][:, k : k + half], ratios, seeds) for k in (0, half))
    slope_a, slope_b = (np.polyfit(RATIOS, truth[k : k + 3], 1)[0] for k in (0, 3))

    def last(name, condition):
        """The metric of the condition's runs at r = 1."""
        stop = (condition + 1) * half
        return found[name][:, stop - world.seeds : stop]

    results = {
        "accuracy": (interval(resamples, last("accuracy", 0)), truth[2]),
        "macro recall": (interval(resamples, last("recall", 0)), truth[2]),
        "recall of a class": (interval(resamples, last("recall:class0", 0)), truth[2]),
        "difference": (
            difference(resamples, last("accuracy", 0), last("accuracy", 1)),
            truth[2] - truth[5],
        ),
        "slope": (slope_interval(resamples, a), slope_a),
        "difference of slopes": (slope_interval(resamples, a, b), slope_a - slope_b),
    }
    return {name: result.low <= value <= result.high for name, (result, value) in results.items()}


def coverage(world, studies, monkeypatch):
    # The AUROC takes most of a study's time and is not looked at here.
    monkeypatch.setattr(
        "stagetransfer.statistics.intervals._auroc",
        lambda resamples, p: np.zeros((len(resamples.weights), len(p), p.shape[2])),
    )
    rng = np.random.default_rng(2018)
    held = [one_study(world, rng, number) for number in range(studies)]
    return {name: np.mean([study[name] for study in held]) for name in held[0]}


def test_intervals_contain_the_true_value(monkeypatch):
    """A quick look: 93 to 97 %, give or take 3 standard errors of so few studies."""
    studies = 300
    found = coverage(World(seeds=5, classes=3), studies, monkeypatch)
    slack = 3 * np.sqrt(0.95 * 0.05 / studies)
    assert all(0.93 - slack <= share <= 0.97 + slack for share in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [
        World(seeds=3),
        World(seeds=3, by_seed=0.2),
        World(seeds=5),
        World(seeds=5, by_seed=0.2),
        World(seeds=5, classes=7, patients=10),
    ],
    ids=str,
)
def test_intervals_contain_the_true_value_in_93_to_97_percent(world, monkeypatch):
    found = coverage(world, 3000, monkeypatch)  # a standard error of 0.4 %
    assert all(0.93 <= share <= 0.97 for share in found.values()), found


def crossed_study(rng, sds, seeds=3, sources=3, patients=36, images=4):
    """Accuracy on every resample of runs whose seeds and source seeds are crossed, and its truth.

    `sds` are the standard deviations of the seed, the source seed and their interaction.
    """
    groups = np.repeat(np.arange(patients), images)
    seed, source = (of.ravel() for of in np.indices((seeds, sources)))
    effects = [rng.normal(0, sd, n) for sd, n in zip(sds, (seeds, sources, len(seed)), strict=True)]
    score = 1 + (effects[0][seed] + effects[1][source] + effects[2])[:, None]
    score = score + rng.normal(0, 0.5, patients)[groups]
    score = score + np.sqrt(0.5) * (rng.normal(size=len(groups)) + rng.normal(size=score.shape))
    drawn = resample(groups % 3, groups, ["a", "b", "c"], seeds=1, count=399)
    drawn = cross_seeds(drawn, seed, source)
    of_groups = (score > 0).reshape(len(seed), patients, images).mean(2)
    values = drawn.weights @ of_groups.T / drawn.weights.sum(1, keepdims=True)
    return drawn, values, ndtr(1 / np.sqrt(1.25 + np.square(sds).sum()))


@pytest.mark.parametrize(
    "sds", [(0.2, 0.2, 0.0), (0.1, 0.1, 0.1), (0.0, 0.0, 0.2), (0.3, 0.05, 0.0), (0.05, 0.3, 0.0)]
)
def test_intervals_contain_the_true_value_if_seeds_and_source_seeds_are_crossed(sds):
    """Also if only the interaction varies, which the product of the draws counts three times."""
    rng, held, studies = np.random.default_rng(3), [], 400
    for _ in range(studies):
        drawn, values, truth = crossed_study(rng, sds)
        found = interval(drawn, values)
        held.append(found.low <= truth <= found.high)
    slack = 3 * np.sqrt(0.95 * 0.05 / studies)
    assert 0.93 - slack <= np.mean(held) <= 0.985 + slack
