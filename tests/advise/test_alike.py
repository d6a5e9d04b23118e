"""What a set of images looks like, in numbers, and how far sets lie apart."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from stagetransfer.advise.alike import (
    FAR,
    HALVES,
    SomeImages,
    alike,
    appearance,
    some_positions,
    unlike_all,
)

RANDOM = np.random.default_rng(0)


class Data:
    """Images (N, 3, 32, 32) in [0, 1] in the place of a data module."""

    mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    std = torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)

    def __init__(self, images, groups=None):
        self.images = torch.from_numpy(images).float()
        self.rows = {"train": np.arange(len(images))}
        self.samples = type("Samples", (), {"groups": groups})

    def inputs(self, split, positions):
        return (self.images[positions] - self.mean) / self.std

    def count(self, split):
        return len(self.images)

    def count_by_class(self, split):
        return {"a": len(self.images) - 10, "b": 10, "never": 0}


def grey(values):
    return np.repeat(values[:, None], 3, axis=1)


def waves(slope, count=60, size=32):
    """Images whose power falls with frequency to this power."""
    axis = np.fft.fftfreq(size)
    radius = np.maximum(np.hypot(*np.meshgrid(axis, axis)), 1 / size)
    noise = np.fft.fft2(RANDOM.normal(size=(count, size, size)))
    found = np.fft.ifft2(noise * radius ** (slope / 2)).real
    return grey(0.5 + 0.1 * found / found.std((1, 2), keepdims=True))


@pytest.mark.parametrize("slope", [0, -2, -3])
def test_the_slope_of_the_spectrum(slope):
    found = appearance(Data(waves(slope)))
    assert found["spectrum_slope"] == pytest.approx(slope, abs=0.35)
    assert found["contrast"] == pytest.approx(0.1, abs=0.005)
    assert found["colour"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [4, 8, 15])
def test_small_images_have_no_slope(size):
    assert np.isnan(appearance(Data(waves(-2, size=size)))["spectrum_slope"])


def test_counts_and_grey_values():
    images = np.full((40, 3, 32, 32), 0.25)
    images[:, 0] += 0.3
    found = appearance(Data(images, [f"p{i // 4}" for i in range(40)]))
    assert (found["count"], found["classes"], found["patients"]) == (40, 2, 10)
    assert found["effective_classes"] == pytest.approx(
        np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    )
    assert found["grey"] == pytest.approx(0.35)
    assert found["colour"] == pytest.approx((0.2 + 0.1 + 0.1) / 3)
    assert found["contrast"] == pytest.approx(0, abs=1e-5)
    assert np.isnan(appearance(Data(images))["patients"])


def test_smooth_images_have_equal_neighbours_and_noise_has_none():
    assert appearance(Data(waves(-4)))["neighbours"] > 0.9
    assert appearance(Data(waves(0)))["neighbours"] == pytest.approx(0, abs=0.1)


def test_batches_do_not_change_the_numbers(monkeypatch):
    data = Data(waves(-1, 70))
    expected = appearance(data)
    monkeypatch.setattr("stagetransfer.advise.alike.BATCH", 7)
    assert appearance(data) == pytest.approx(expected, nan_ok=True)


def test_at_most_so_many_images_are_looked_at():
    assert some_positions(Data(np.zeros((7, 3, 2, 2)))) == list(range(7))
    chosen = some_positions(Data(np.zeros((2500, 3, 2, 2))))
    assert (len(chosen), chosen[0], chosen[-1]) == (1000, 0, 2499)


def some(centre, groups=None, count=80):
    data = Data(waves(-1, count), groups)
    return SomeImages(data, RANDOM.normal(centre, 1, (count, 12)).astype(np.float32))


def test_what_is_farther_away_has_the_larger_distance():
    groups = [f"p{i // 4}" for i in range(80)]
    table = alike(some(0, groups), {"near": some(0), "far": some(3)}).set_index("images")
    assert list(table.index) == ["target", HALVES, "near", "far"]
    assert table.loc[HALVES, "classifier_accuracy"] < 0.7
    assert table.loc["near", "classifier_accuracy"] < 0.7
    assert table.loc["far", "classifier_accuracy"] > 0.95
    assert table.loc["far", "frechet"] > 5 * table.loc["near", "frechet"]
    assert np.isnan(table.loc["target", "frechet"])


def test_a_target_unlike_all_sources():
    target, near, far, farther = some(0), some(0), some(3), some(5)
    (line,) = unlike_all(alike(target, {"far": far, "farther": farther}))
    assert "(far, farther)" in line
    assert unlike_all(alike(target, {"far": far, "near": near})) == []
    assert unlike_all(alike(target, {})) == []


@pytest.mark.parametrize(
    ("halves", "of_sources", "lines"),
    [
        (0.5, [FAR, 1.0], 1),
        (0.5, [FAR - 0.01, 1.0], 0),
        (FAR, [1.0, 1.0], 0),  # its patients differ as much
        (math.nan, [1.0, 1.0], 0),
        (0.5, [math.nan, 1.0], 0),
    ],
)
def test_from_which_accuracy_on_sets_are_unlike(halves, of_sources, lines):
    looks = pd.DataFrame({"images": ["target", HALVES, "natural", "texture"]})
    looks["classifier_accuracy"] = [math.nan, halves, *of_sources]
    assert len(unlike_all(looks)) == lines


def test_the_halves_of_the_target_share_no_patient():
    # Patients differ much; halves with all patients in both would look alike.
    groups = [f"p{i // 20}" for i in range(80)]
    features = np.repeat(RANDOM.normal(size=(4, 12)) * 5, 20, 0) + RANDOM.normal(size=(80, 12))
    apart = alike(SomeImages(Data(waves(-1, 80), groups), features.astype(np.float32)), {})
    mixed = alike(SomeImages(Data(waves(-1, 80)), features.astype(np.float32)), {})
    assert apart["frechet"][1] > 3 * mixed["frechet"][1]
