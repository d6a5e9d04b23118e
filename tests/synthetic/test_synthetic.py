import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stagetransfer.errors import UserError
from stagetransfer.layouts.samples import Samples
from stagetransfer.synthetic import GENERATORS, lung, natural, texture
from stagetransfer.synthetic.fields import band_noise, grid, jittered_points, voronoi

SMALL = {"natural": {"per_class": 3}, "texture": {"per_class": 12}, "target": {"scale": 0.15}}
DOMAINS = list(GENERATORS)


@pytest.fixture(scope="module")
def target() -> Samples:
    return lung()


@pytest.fixture(scope="module")
def small() -> dict[str, Samples]:
    return {name: GENERATORS[name](**SMALL[name]) for name in DOMAINS}


@pytest.mark.parametrize("name", DOMAINS)
def test_the_seed_decides_the_pixels(name, small):
    assert GENERATORS[name](**SMALL[name]).fingerprint() == small[name].fingerprint()
    other = GENERATORS[name](seed=1, **SMALL[name])
    same = (other.images == small[name].images).reshape(len(other), -1).all(axis=1)
    assert not same.any()


@pytest.mark.parametrize("name", DOMAINS)
def test_images_use_the_whole_range_and_all_differ(name, small):
    images = small[name].images
    assert images.dtype == np.uint8
    assert images.min() < 30
    assert images.max() > 225
    assert images.reshape(len(images), -1).std(axis=1).min() > 3
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert len(set(small[name].ids)) == len(images)


@pytest.mark.parametrize(
    ("name", "more"),
    [("natural", {"per_class": 5}), ("texture", {"per_class": 23}), ("target", {"scale": 0.25})],
)
def test_more_images_leave_the_earlier_ones_unchanged(name, more, small):
    larger = GENERATORS[name](**more)
    rows = {image_id: i for i, image_id in enumerate(larger.ids)}
    assert len(larger) > len(small[name])
    for i, image_id in enumerate(small[name].ids):
        np.testing.assert_array_equal(larger.images[rows[image_id]], small[name].images[i])


@pytest.mark.parametrize("name", DOMAINS)
def test_size_is_the_side(name):
    assert GENERATORS[name](**SMALL[name], size=24).images.shape[1:3] == (24, 24)


def test_no_class_is_in_two_domains(small):
    names = [c.lower() for s in small.values() for c in s.classes]
    assert len(set(names)) == len(names)


def test_sources_are_balanced_rgb(small):
    for name, classes in (("natural", 10), ("texture", 12)):
        s, n = small[name], SMALL[name]["per_class"]
        assert s.images.shape == (classes * n, 64, 64, 3)
        assert np.bincount(s.labels).tolist() == [n] * classes
        assert s.splits is None


def test_texture_has_sixty_samples_per_class():
    s = GENERATORS["texture"](per_class=61)
    assert len(set(s.groups)) == 12 * 60
    assert all(
        g.startswith(s.classes[k] + "/sample") for g, k in zip(s.groups, s.labels, strict=True)
    )


def test_colour_does_not_reveal_the_shape():
    s = natural(per_class=20)
    colour = np.concatenate([s.images.mean(axis=(1, 2)), s.images.std(axis=(1, 2))], axis=1)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    guess = cross_val_predict(model, colour, s.labels, cv=4)
    assert recall_score(s.labels, guess, average="macro") < 0.25


def test_target_counts(target):
    assert target.classes == ("CON", "GGO", "HCM", "RET", "EMP", "NOD", "NOR")
    split = np.array(target.splits)
    counts = {k: np.bincount(target.labels[split == k]).tolist() for k in ("train", "test")}
    assert counts == {
        "train": [47, 90, 63, 55, 218, 99, 239],
        "test": [35, 45, 55, 53, 104, 52, 112],
    }
    assert set(target.splits) == {"train", "test"}


@pytest.mark.parametrize("scale", [0.001, 1.0])
def test_target_has_the_papers_patients_and_none_in_two_splits(scale, target):
    s = target if scale == 1.0 else lung(scale=scale)
    groups, splits = np.array(s.groups), np.array(s.splits)
    train, test = set(groups[splits == "train"]), set(groups[splits == "test"])
    assert not train & test
    assert (len(train), len(test)) == (57, 60)
    for split, patients in (
        ("train", [13, 14, 10, 8, 10, 9, 11]),
        ("test", [14, 14, 9, 9, 11, 10, 11]),
    ):
        rows = splits == split
        assert [len(set(groups[rows & (s.labels == k)])) for k in range(7)] == patients
    normal = set(groups[s.labels == 6])
    assert len(normal & set(groups[s.labels == 4])) == 6  # patients with emphysema give NOR too


@pytest.mark.parametrize(
    ("reduce", "strength"),
    [([], 1e-3), ([PCA(30, whiten=True, random_state=0)], 1.0)],
    ids=["pixels", "pca"],
)
def test_a_linear_model_does_not_solve_the_target(reduce, strength, target):
    x = target.images.reshape(len(target), -1).astype(np.float32) / 255
    train = np.array(target.splits) == "train"
    model = make_pipeline(
        StandardScaler(),
        *reduce,
        LogisticRegression(C=strength, tol=1e-2, max_iter=300, class_weight="balanced"),
    )
    guess = model.fit(x[train], target.labels[train]).predict(x[~train])
    assert 0.3 < recall_score(target.labels[~train], guess, average="macro") < 0.6


def test_classes_of_the_target_overlap_in_brightness(target):
    mean = target.images.mean(axis=(1, 2))
    of = {c: mean[target.labels == k] for k, c in enumerate(target.classes)}
    assert np.quantile(of["EMP"], 0.9) > np.quantile(of["NOR"], 0.2)
    assert np.quantile(of["GGO"], 0.1) < np.quantile(of["NOR"], 0.97)
    assert of["EMP"].mean() < of["NOR"].mean() < of["GGO"].mean() < of["CON"].mean()


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: natural(per_class=0), "per_class"),
        (lambda: texture(per_class=-1), "per_class"),
        (lambda: natural(size=8), "size"),
        (lambda: texture(size=8), "size"),
        (lambda: lung(size=8), "size"),
        (lambda: lung(scale=0), "scale"),
        (lambda: lung(scale=float("nan")), "scale"),
    ],
)
def test_bad_arguments_get_one_line(call, key):
    with pytest.raises(UserError, match=f"{key} is") as error:
        call()
    assert "\n" not in str(error.value)


def test_band_noise_has_its_frequencies_only():
    rng = np.random.default_rng(0)
    power = np.abs(np.fft.rfft2(band_noise(rng, 128, period=8, width=0.2))) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None, :])
    inside = (frequency > 1 / 12) & (frequency < 1 / 5)
    assert power[inside].sum() > 0.95 * power.sum()


def test_voronoi_agrees_with_all_distances():
    x, y = grid(20, 0.5)
    points = jittered_points(np.random.default_rng(0), 10, 3, 0.3)
    near, second, which = voronoi(x, y, points)
    every = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1])
    np.testing.assert_allclose(near, np.sort(every)[..., 0], rtol=1e-5)
    np.testing.assert_allclose(second, np.sort(every)[..., 1], rtol=1e-5)
    np.testing.assert_array_equal(which, every.argmin(axis=-1))
