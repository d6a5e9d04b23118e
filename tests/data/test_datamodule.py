"""The data module: splits, subset, decoded images, augmentation and network input."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

from stagetransfer.data import DomainDataModule, StageSettings, TargetDataModule
from stagetransfer.data.images import (
    Batch,
    ImageSet,
    _resize_in_two_passes,
    augment,
    centre_crop,
    decode,
    resize,
    to_input,
)
from stagetransfer.data.loader import EpochSampler
from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)


def read(module=DomainDataModule, **settings):
    """A data module that has been read; `settings` are those of its stage and of its domain."""
    names = [one.name for one in fields(StageSettings) if one.name in settings]
    stage = StageSettings(**{name: settings.pop(name) for name in names})
    return module(stage, **settings).read()


@pytest.fixture(scope="module")
def target():
    return read(TargetDataModule, name="target", layout="embedded", options={"scale": 0.2})


@pytest.fixture
def tree(tmp_path):
    """Two classes of twelve images, four patients in each."""
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(12):
            pixels = random.integers(0, 256, (20, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"p{i % 4}{label}_{i}.png")
    return tmp_path


def test_no_group_is_in_two_splits_and_every_class_in_each(target):
    groups = np.array(target.samples.groups)
    sides = [set(groups[target.rows[split]]) for split in ("train", "validation", "test")]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    for split in ("train", "validation", "test"):
        assert set(target.samples.labels[target.rows[split]]) == set(range(7))


def test_the_ratio_reduces_training_and_validation_but_not_test(target):
    half = read(
        TargetDataModule,
        name="target",
        layout="embedded",
        options={"scale": 0.2},
        ratio=0.5,
        seed=3,
    )
    for split in ("train", "validation"):
        assert set(half.rows[split]) < set(target.rows[split])
    assert np.array_equal(half.rows["test"], target.rows["test"])
    assert half.count("train") == pytest.approx(target.count("train") / 2, abs=4)


def test_all_seeds_share_the_splits_and_differ_in_the_subset():
    def rows(seed):
        options = {"scale": 0.2}
        return read(
            TargetDataModule, name="t", layout="embedded", options=options, ratio=0.5, seed=seed
        ).rows

    assert np.array_equal(rows(0)["test"], rows(1)["test"])
    assert not np.array_equal(rows(0)["train"], rows(1)["train"])


def test_a_source_has_no_test_set_and_does_not_train_on_an_official_one(tree):
    source = read(name="s", layout="folder", root=tree, is_target=False)
    assert source.count("test") == 0
    assert source.count("train") + source.count("validation") == 24
    as_target = read(name="s", layout="folder", root=tree)
    assert as_target.count("test") > 0
    phantom = read(
        TargetDataModule, name="t", layout="embedded", options={"scale": 0.2}, is_target=False
    )
    official = np.array(phantom.samples.splits)
    assert (official[np.r_[phantom.rows["train"], phantom.rows["validation"]]] == "train").all()


def test_held_patches_keep_their_size_and_become_network_input(tree):
    data = read(name="t", layout="folder", root=tree, input_size=67, batch_size=5)
    data.setup("fit")
    held = data.image_set("train").held
    assert held is not None
    assert held.shape[1:] == (1, 20, 20)
    assert held.dtype == torch.uint8
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, Batch)
    assert len(batch.images) == 5
    first = Image.open(data.samples.images[batch.rows[0]])
    assert np.array_equal(batch.images[0, 0].numpy(), np.asarray(first))
    assert batch.labels[0] == data.samples.labels[batch.rows[0]]


def test_sets_beyond_the_memory_limit_are_decoded_by_batch(tree):
    data = read(
        name="t", layout="folder", root=tree, input_size=20, memory_limit_gib=0, batch_size=4
    )
    data.setup("fit")
    assert data.image_set("train").held is None
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (4, 3, 20, 20)
    grey = np.asarray(Image.open(data.samples.images[batch.rows[2]]))
    assert np.array_equal(batch.images[2, 1].numpy(), grey)


@pytest.mark.parametrize("sizes", [[(20, 20)], [(20, 20), (90, 60)], [(30, 20)]])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_held_images_and_decoded_batches_have_the_same_pixels(tree, sizes, fit):
    random = np.random.default_rng(1)
    for i, path in enumerate(sorted(tree.rglob("*.png"))):
        shape = (*sizes[i % len(sizes)], *[[3], []][i % 2])
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)

    def pixels(limit):
        data = read(
            name="t", layout="folder", root=tree, input_size=40, crop=0.2, fit=fit,
            memory_limit_gib=limit, is_target=False,
        )  # fmt: skip
        held = data.image_set("train").held is not None
        return held, data.inputs("train", range(data.count("train")))

    (held, one), (decoded, other) = pixels(1), pixels(0)
    assert (held, decoded) == (True, False)
    assert torch.equal(one, other)


def test_all_images_of_a_domain_decide_at_which_side_they_are_stored(tree):
    def side():
        data = read(name="t", layout="folder", root=tree, check_images=False, memory_limit_gib=0)
        return data.image_set("validation").side

    assert side() == 20
    (tree / "a" / "broken.png").write_text("no image")
    assert side() == 20
    Image.new("L", (20, 19)).save(tree / "b" / "other.png")
    assert side() == 227


def test_a_set_that_fits_the_limit_at_its_own_size_is_held(tree):
    data = read(name="t", layout="folder", root=tree, memory_limit_gib=24 * 3 * 400 / 2**30)
    assert data.image_set("train").held is not None


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_draw_nothing_from_the_global_generator(tree, workers):
    data = read(name="t", layout="folder", root=tree, memory_limit_gib=0, workers=workers)
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), data.val_dataloader(), *data.predict_dataloader()):
        list(loader), list(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("way", [resize, _resize_in_two_passes], ids=["processor", "elsewhere"])
@pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 50), (3, 301)])
def test_resizing_matches_bicubic_resizing_in_pil(way, channels, side):
    # Noise over the whole range: bicubic overshoots it, and PIL clips between its two passes.
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, channels), dtype=np.uint8)
    ours = way(torch.from_numpy(images).movedim(-1, 1), 227)
    for image, resized in zip(images, ours.movedim(1, -1), strict=True):
        photo = Image.fromarray(image.squeeze())
        expected = np.asarray(photo.resize((227, 227), Image.Resampling.BICUBIC))
        difference = np.abs(resized.squeeze().numpy().astype(int) - expected)
        assert difference.max() <= 2  # their weights are of 16 and of 22 bits
        assert (difference > 0).mean() < 0.01


def test_grey_is_enlarged_and_copied_to_three_channels():
    patch = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    ours = to_input(patch, 227, 0 * MEAN, 0 * STD + 1)
    assert ours.shape == (2, 3, 227, 227)
    assert torch.equal(ours[:, 0], ours[:, 2])
    assert torch.equal(ours[:, 1], resize(patch, 227)[:, 0] / 255)


def test_normalisation():
    images = torch.full((2, 3, 8, 8), 51, dtype=torch.uint8)
    x = to_input(images, 8, MEAN, STD)
    assert torch.allclose(x[0, :, 0, 0], torch.tensor([-1.5, -2 / 3, -0.25]))
    noise = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(to_input(noise, 8, MEAN, STD), (noise / 255 - MEAN) / STD)


def test_colour_stays_channels_last_from_the_set_to_the_network(tmp_path):
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    paths = tuple(tmp_path / f"{i}.png" for i in range(4))
    samples = Samples(paths, tuple("0123"), np.array([0, 1, 0, 1]), ("a", "b"))
    for limit in (1e9, 0):
        batch = ImageSet(samples, np.arange(4), 20, "crop", limit).__getitems__([2, 0, 1])
        varied = augment(batch.images, mirror=True, turn=True, crop=0.2)
        for x in (batch.images, varied, to_input(varied, 24, MEAN, STD)):
            assert x.is_contiguous(memory_format=torch.channels_last)
        photo = batch.images[0].movedim(0, -1)
        assert np.array_equal(photo.numpy(), np.asarray(Image.open(paths[2])))


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_draws_each_variant_and_nothing_else(channels):
    image = torch.arange(9 * channels, dtype=torch.uint8).view(1, channels, 3, 3)
    torch.manual_seed(0)
    many = augment(image.expand(400, -1, -1, -1), mirror=True, turn=True, crop=0)
    seen = {tuple(x.flatten().tolist()) for x in many}
    legal = {
        tuple(torch.rot90(v[0], k, (1, 2)).flatten().tolist())
        for v in (image, image.flip(-1))
        for k in range(4)
    }
    assert seen == legal
    plain = augment(image, mirror=False, turn=False, crop=0)
    assert torch.equal(plain, image)


def test_crops():
    image = torch.arange(100, dtype=torch.uint8).view(1, 1, 10, 10)
    assert torch.equal(centre_crop(image, 0.2), image[:, :, 1:9, 1:9])
    torch.manual_seed(0)
    many = augment(image.expand(300, -1, -1, -1), mirror=False, turn=False, crop=0.2)
    corners = {int(x[0, 0, 0]) for x in many}
    assert corners == {10 * y + x for y in range(3) for x in range(3)}


def test_a_tall_image_is_resized_along_its_rows_first(tmp_path):
    # Pillow 13 begins with the columns here: two passes of its own, in our order.
    pixels = np.random.default_rng(2).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "tall.png")
    ours = decode(tmp_path / "tall.png", 40, "stretch")
    expected = Image.fromarray(pixels).resize((40, 90), Image.Resampling.BICUBIC)
    expected = expected.resize((40, 40), Image.Resampling.BICUBIC)
    assert np.abs(ours.astype(int) - np.asarray(expected)).max() <= 2


def test_fit_crop_and_fit_stretch(tmp_path):
    photo = np.zeros((40, 80, 3), dtype=np.uint8)
    photo[:, :20] = 255  # a white quarter at the left
    Image.fromarray(photo).save(tmp_path / "wide.png")
    crop = decode(tmp_path / "wide.png", 40, "crop")
    stretched = decode(tmp_path / "wide.png", 40, "stretch")
    assert crop.shape == stretched.shape == (40, 40, 3)
    assert crop[:, 5:].max() == 0
    assert stretched[:, :8].min() == 255


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_cropping_and_resizing_match_pil(tmp_path, mode):
    pixels = np.random.default_rng(2).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    ours = decode(tmp_path / "photo.png", 40, "crop", mode)
    photo = Image.open(tmp_path / "photo.png").convert(mode).crop((15, 0, 75, 60))
    expected = np.asarray(photo.resize((40, 40), Image.Resampling.BICUBIC))
    assert ours.shape == expected.shape
    assert np.abs(ours.astype(int) - expected).max() <= 2


def test_mixed_sizes_and_colours_become_one_shape(tmp_path):
    Image.new("L", (10, 10), 7).save(tmp_path / "1.png")
    Image.new("RGB", (30, 20), (1, 2, 3)).save(tmp_path / "2.png")
    samples = Samples(
        (tmp_path / "1.png", tmp_path / "2.png"), ("1", "2"), np.array([0, 1]), ("a", "b")
    )
    held = ImageSet(samples, np.array([0, 1]), 16, "crop", 1e9).held
    assert held.shape == (2, 3, 16, 16)
    assert held[0].unique().tolist() == [7]
    assert held[1, :, 8, 8].tolist() == [1, 2, 3]


def test_the_order_depends_on_seed_and_epoch_alone():
    labels = torch.arange(50) % 2
    sampler, same = EpochSampler(labels, 1), EpochSampler(labels, 1)
    torch.manual_seed(7)
    first = list(sampler)
    torch.manual_seed(8)
    assert list(same) == first
    assert sorted(first) == list(range(50))
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(EpochSampler(labels, 2)) != first


def test_balanced_sampling_draws_classes_equally():
    labels = torch.tensor([0] * 900 + [1] * 100)
    drawn = labels[list(EpochSampler(labels, 0, balanced=True))]
    assert drawn.float().mean() == pytest.approx(0.5, abs=0.05)


def test_loss_weights(target):
    weights = target.class_weights()
    counts = torch.bincount(target.labels("train"))
    assert torch.allclose(weights * counts, (weights * counts)[0].expand(7))
    assert (weights * counts).sum() == pytest.approx(counts.sum().item())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"root": "/nowhere"}, "/nowhere: no such folder"),
        ({"root": None}, "domain.t.root is required"),
        ({"layout": "tree"}, "domain.t.layout=tree: none of embedded, folder"),
        ({"fit": "pad"}, "domain.t.fit=pad: it must be one of crop, stretch"),
        ({"split_by": "x"}, "domain.t.split_by=x: it must be one of group, image"),
        ({"test_share": 1.5}, "domain.t.test_share=1.5: "),
        ({"crop": 1.0}, "domain.t.crop=1.0: a number must be from 0 to 1"),
        ({"layout": "embedded"}, "only the built-in domains"),
        ({"options": {"colour": 1}}, "domain.t.options: got an unexpected keyword argument"),
        ({"ratio": 0.01}, "ratio=0.01 leaves class a no image"),
    ],
)
def test_bad_settings_get_one_line(tree, change, line):
    with pytest.raises(UserError) as caught:
        read(**({"name": "t", "layout": "folder", "root": tree} | change))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_few_groups_name_the_class_and_the_override(tree):
    with pytest.raises(UserError, match=r"class a has .*groups?.*domain.t.split_by=image"):
        read(name="t", layout="folder", root=tree, options={"groups": r"p\d(a|b)_"})
    by_image = read(
        name="t", layout="folder", root=tree, options={"groups": r"p\d(a|b)_"}, split_by="image"
    )
    assert by_image.count("test") == 6


def test_a_file_that_is_not_an_image_is_named(tree):
    (tree / "a" / "broken.png").write_text("no image")
    with pytest.raises(UserError, match=r"broken.png: not an image; remove or replace it"):
        read(name="t", layout="folder", root=tree)
    later = read(name="t", layout="folder", root=tree, check_images=False, test_share=0.5)
    with pytest.raises(UserError, match=r"broken.png: not an image"):
        later.setup("fit"), later.setup("test")


def test_sixteen_bit_images_are_refused_with_what_to_do(tmp_path):
    Image.fromarray(np.full((8, 8), 3000, dtype=np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="apply a window"):
        decode(tmp_path / "x.png", 8, "crop")


@pytest.mark.parametrize(("limit", "place"), [(24 * 400, "meta"), (24 * 400 - 1, "cpu")])
def test_held_images_move_to_a_device_if_they_fit(tree, limit, place):
    samples = read(name="t", layout="folder", root=tree).samples
    part = ImageSet(samples, np.arange(24), 20, "crop", memory_limit=1e9)
    part.move(torch.device("meta"), limit)
    assert part.held.device.type == place
    batch = part.__getitems__([3, 1])
    assert batch.images.device.type == place
    assert batch.images.shape == (2, 1, 20, 20)
    assert batch.rows.tolist() == [3, 1]
