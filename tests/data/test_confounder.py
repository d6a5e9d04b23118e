"""A planted confounder goes with a class in training, not in the test; hashed only if set.

A frequency and a noise level are what their closed forms say.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from data.test_datamodule import read
from stagetransfer.data import TargetDataModule
from stagetransfer.data.confounder import AMPLITUDE, CYCLES, SIGMA, Confounder
from stagetransfer.errors import UserError

EMBEDDED = {"name": "target", "layout": "embedded", "options": {"scale": 0.5}}
SIDE = 32 // 8


@pytest.fixture(scope="module")
def plain():
    return read(TargetDataModule, **EMBEDDED)


def planted(**settings):
    return read(TargetDataModule, **EMBEDDED, **settings)


def marked(data, split):
    """Which images of a split bear the white square, and which are of the class RET."""
    images = data.image_set(split).__getitems__(range(data.count(split))).images
    corner = (images[:, :, :SIDE, :SIDE] == 255).flatten(1).all(1).numpy()
    return corner, (data.labels(split) == data.classes.index("RET")).numpy()


@pytest.mark.parametrize(
    ("test", "own", "others"), [(None, 0.2, 0.8), ("same", 0.8, 0.2), ("absent", 0, 0)]
)
def test_the_mark_goes_with_the_class_in_training_alone(plain, test, own, others):
    data = planted(confounder=0.8, confounder_class="RET", confounder_test=test)
    for split, expected in (
        ("train", (0.8, 0.2)),
        ("validation", (0.8, 0.2)),
        ("test", (own, others)),
    ):
        corner, is_class = marked(data, split)
        without, _ = marked(plain, split)  # consolidation may be white by itself
        for chosen, share in zip((is_class, ~is_class), expected, strict=True):
            chosen = chosen & ~without
            error = 3 * np.sqrt(share * (1 - share) / chosen.sum())
            assert corner[chosen].mean() == pytest.approx(share, abs=error)
    images = [one.image_set("test").__getitems__(range(50)).images for one in (data, plain)]
    assert torch.equal(images[0][:, :, SIDE:], images[1][:, :, SIDE:])
    assert torch.equal(images[0][:, :, :SIDE, SIDE:], images[1][:, :, :SIDE, SIDE:])


def test_the_test_does_not_change_the_training():
    images = [
        data.image_set("train").__getitems__(range(data.count("train"))).images
        for data in (planted(confounder=0.9), planted(confounder=0.9, confounder_test="absent"))
    ]
    assert torch.equal(*images)


def test_strength_one_is_certain_and_half_says_nothing(plain):
    corner, is_class = marked(planted(confounder=1.0, confounder_class="RET"), "train")
    assert (corner == is_class)[~marked(plain, "train")[0]].all()
    corner, is_class = marked(planted(confounder=0.5, confounder_class="RET"), "train")
    assert abs(corner[is_class].mean() - corner[~is_class].mean()) < 0.25


def test_only_a_confounder_that_is_set_is_hashed(plain):
    assert not [name for name in plain.identity() if "confounder" in name]
    with pytest.raises(UserError, match="confounder_class"):
        planted(confounder_class="RET")
    mark = planted(confounder=0.9).identity()
    assert planted(confounder=0.9, confounder_kind="mark").identity() == mark
    assert "confounder_kind" not in mark  # as before there were other kinds
    seen = [plain.identity(), plain.input_identity()]
    for settings in (
        {"confounder": 0.9},
        {"confounder": 0.8},
        {"confounder": 0.9, "confounder_kind": "noise"},
        {"confounder": 0.9, "confounder_kind": "frequency"},
        {"confounder": 0.9, "confounder_test": "absent"},
        {"confounder": 0.9, "confounder_class": "NOR"},
    ):
        data = planted(**settings)
        assert data.fingerprint == plain.fingerprint
        for identity in (data.identity(), data.input_identity()):
            assert identity not in seen
            seen.append(identity)


@pytest.mark.parametrize("kind", [None, "frequency", "noise"])
def test_images_that_are_decoded_in_each_batch_bear_the_same(tmp_path, kind):
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(20):
            pixels = np.random.default_rng(i).integers(0, 200, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    found = [
        read(TargetDataModule, name="target", layout="folder", root=str(tmp_path), confounder=0.9,
             confounder_kind=kind, split_by="image", memory_limit_gib=limit)
        for limit in (1.0, 0.0)
    ]  # fmt: skip
    images = [data.image_set("train").__getitems__(range(20)).images for data in found]
    assert torch.equal(*images)
    assert images[0].float().std((2, 3)).gt(0).all()
    if kind is None:
        assert ((images[0][:, :, :3, :3] == 255).flatten(1).all(1)).sum() > 3


def grey(bears, kind, side=64, level=128):
    images = torch.full((len(bears), 3, side, side), level, dtype=torch.uint8)
    names = [f"image {i}" for i in range(len(bears))]
    changed = Confounder(kind, np.array(bears), names).plant(images, np.arange(len(bears)))
    assert changed.dtype == torch.uint8
    assert (images == level).all()
    return changed.double().numpy() - level


def test_a_frequency_has_one_peak_in_the_spectrum():
    without, planted = grey([False, True], "frequency")
    assert not without.any()
    assert (planted == planted[:1]).all()  # of all channels
    power = np.abs(np.fft.fft2(planted[0])) ** 2
    assert np.unravel_index(power.argmax(), power.shape) == (0, CYCLES)
    # The two lines of a cosine hold N ** 2 A ** 2 / 2 in all; the rest is rounding.
    lines = power[0, CYCLES] + power[0, -CYCLES]
    assert lines == pytest.approx(64**4 * AMPLITUDE**2 / 2, rel=0.02)
    assert power.sum() - lines < 0.005 * lines


def test_a_noise_level_has_its_variance_and_is_white():
    bears = [True] * 50
    planted = grey(bears, "noise")[:, 0]
    variance = SIGMA**2 + 1 / 12  # of the noise, and of rounding to whole grey values
    count = planted.size
    assert planted.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / count))
    assert planted.mean() == pytest.approx(0, abs=4 * SIGMA / np.sqrt(count))
    neighbours = np.corrcoef(planted[:, :, 1:].ravel(), planted[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(count)
    assert abs(np.corrcoef(planted[0].ravel(), planted[1].ravel())[0, 1]) < 4 / 64
    assert np.array_equal(planted, grey(bears, "noise")[:, 0])


def test_bright_images_are_clipped_and_not_wrapped():
    assert grey([True], "frequency", level=255).max() == 0
    assert grey([True], "noise", level=0).min() == 0


def test_bad_confounders():
    with pytest.raises(UserError, match=r"domain\.target\.confounder_class=nope.*CON"):
        planted(confounder=0.9, confounder_class="nope")
    with pytest.raises(UserError, match=r"domain\.target\.confounder_test=nope"):
        planted(confounder_test="nope")
    with pytest.raises(UserError, match=r"domain\.target\.confounder_kind=nope"):
        planted(confounder_kind="nope")
    with pytest.raises(UserError, match=r"domain\.natural\.confounder"):
        read(TargetDataModule, name="natural", layout="embedded", confounder=0.9, is_target=False)
