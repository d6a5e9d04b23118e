"""A planted confounder goes with a class in training, not in the test; hashed only if set."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.test_datamodule import read
from stagetransfer.data import TargetDataModule
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
    assert planted(confounder_class="RET").identity() == plain.identity()
    seen = [plain.identity(), plain.input_identity()]
    for settings in (
        {"confounder": 0.9},
        {"confounder": 0.8},
        {"confounder": 0.9, "confounder_test": "absent"},
        {"confounder": 0.9, "confounder_class": "NOR"},
    ):
        data = planted(**settings)
        assert data.fingerprint == plain.fingerprint
        for identity in (data.identity(), data.input_identity()):
            assert identity not in seen
            seen.append(identity)


def test_images_that_are_decoded_in_each_batch_bear_the_same_marks(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(20):
            pixels = np.random.default_rng(i).integers(0, 200, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    found = [
        read(TargetDataModule, name="target", layout="folder", root=str(tmp_path), confounder=0.9,
             split_by="image", memory_limit_gib=limit)
        for limit in (1.0, 0.0)
    ]  # fmt: skip
    images = [data.image_set("train").__getitems__(range(20)).images for data in found]
    assert torch.equal(*images)
    assert ((images[0][:, :, :3, :3] == 255).flatten(1).all(1)).sum() > 3


def test_bad_confounders():
    with pytest.raises(UserError, match=r"domain\.target\.confounder_class=nope.*CON"):
        planted(confounder=0.9, confounder_class="nope")
    with pytest.raises(UserError, match=r"domain\.target\.confounder_test=nope"):
        planted(confounder_test="nope")
    with pytest.raises(UserError, match=r"domain\.natural\.confounder"):
        read(TargetDataModule, name="natural", layout="embedded", confounder=0.9, is_target=False)
