"""The calibrated classifier: probabilities, distances and marks; agreement with the truth."""

import numpy as np
import pytest
import torch

from stagetransfer.config.schema import Model
from stagetransfer.errors import UserError
from stagetransfer.inference.agreement import Agreement, count_pixels
from stagetransfer.inference.calibrated_classifier import (
    CalibratedClassifier,
    TrainingDistance,
    split_forward,
)
from stagetransfer.inference.explanation import explained_figure
from stagetransfer.inference.reference_features import Examples
from stagetransfer.models import InputSpec, alexnet_backbone, build_backbone
from stagetransfer.training.machine import autocast

CLASSES = ("a", "b", "c")
FEATURES = 96 + 256 + 384 + 384 + 256  # channels of conv1 to conv5


@pytest.fixture(scope="module")
def network():
    result = alexnet_backbone(3, input=InputSpec(67)).eval()
    result.initialise("kaiming", 0)
    return result


def classifier(network, **options):
    given = {
        "temperature": 2.0,
        "max_distance": 1e9,
        "min_probability": 0.0,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    features = torch.rand(20, FEATURES, generator=torch.Generator().manual_seed(1))
    return CalibratedClassifier(network, CLASSES, features=features, **{**given, **options})


def windows(count=5):
    random = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 1, 32, 32), generator=random, dtype=torch.uint8)


def test_probabilities_are_those_of_the_network_at_the_temperature(network):
    images = windows()
    one = classifier(network)
    found = one(images.split(2))
    with torch.no_grad():
        logits = network(one.inputs(images)).double()
    # Float32 rounding depends on the batch size.
    np.testing.assert_allclose(found.probabilities, (logits / 2).softmax(1), atol=5e-5)
    np.testing.assert_array_equal(found.codes, logits.argmax(1))


def test_distance_is_a_mean_of_the_simplified_local_outlier_factor_and_the_plain_distance():
    random = np.random.default_rng(0)
    features, others = (random.normal(5, [1, 10, 0.1], (n, 3)) for n in (4, 12))
    spread = others.std(axis=0)

    def away(x):
        return np.sqrt((((x[:, None] - others) / spread) ** 2).sum(axis=2))

    own = np.sort(away(others), axis=1)[:, 3]  # the first is the image itself
    nearest = np.argsort(away(features), axis=1)[:, :3]
    third = np.sort(away(features), axis=1)[:, 2]
    factor = [np.mean([d / own[n] for n in near]) for d, near in zip(third, nearest, strict=True)]
    expected = np.power(factor, 3 / 4) * (third / np.sort(own)[5]) ** 0.25  # the lower median
    found = TrainingDistance(torch.tensor(others), 3)(torch.tensor(features).float())
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_images_of_a_rare_and_varied_class_are_familiar():
    """A plain distance would mark all of them, and nothing that is as far from the common class."""
    random = np.random.default_rng(1)
    common, rare = random.normal(0, 1, (300, 8)), random.normal(40, 6, (30, 8))
    factor = TrainingDistance(torch.tensor(np.concatenate([common, rare])))
    new = [random.normal(0, 1, (50, 8)), random.normal(40, 6, (50, 8)), np.full((1, 8), -12.0)]
    usual, other, strange = (factor(torch.tensor(x).float()).numpy() for x in new)
    assert np.median(usual) == pytest.approx(1, abs=0.2)
    assert np.median(other) < 2  # plain distances: 6
    assert strange.min() > np.concatenate([usual, other]).max()


def test_features_are_the_channel_means_of_the_blocks(network):
    x = torch.randn(2, 3, 67, 67)
    with torch.no_grad():
        features, logits = split_forward(network, x, "32-true")
        with network.watched(["conv1", "conv5"]) as outputs:
            expected = network(x)
    assert features.shape == (2, FEATURES)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(features[:, :96], outputs["conv1"].mean((2, 3)))
    torch.testing.assert_close(features[:, -256:], outputs["conv5"].mean((2, 3)))


def test_features_of_a_network_whose_channels_are_last():
    options = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "window_size": 6}
    model = Model(
        library="timm", name="swin_tiny_patch4_window7_224", input_size=48, options=options
    )
    swin, x = build_backbone(model, 3).eval(), torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        features, _ = split_forward(swin, x, "32-true")
        with swin.watched(swin.blocks[:1]) as outputs:
            swin(x)
    assert features.shape == (2, 8 + 8 + 16)
    torch.testing.assert_close(features[:, :8], outputs[swin.blocks[0]].mean((1, 2)))


def test_what_no_training_image_activates_is_far():
    others = torch.rand(30, 5)
    others[:, 2] = 0
    distance = TrainingDistance(others)
    familiar, other = others[:1].clone(), others[:1].clone()
    other[:, 2] = 0.1
    assert distance(familiar) < 2 < 1000 < distance(other)


def test_marks_take_precedence_over_classes(network):
    logits = np.log([[0.9, 0.05, 0.05], [0.4, 0.35, 0.25], [0.9, 0.05, 0.05]])
    one = classifier(network, temperature=1.0, min_probability=0.5, max_distance=0.3)
    found = one.predictions(logits, np.array([0.1, 0.2, 0.31]))
    assert [one.label_names[code] for code in found.codes] == [
        "a",
        "uncertain",
        "unlike the training data",
    ]
    assert found.most_probable.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("32", torch.float32),
        ("bf16-mixed", torch.bfloat16),
        ("16-mixed", torch.float16),
    ],
)
def test_autocast_computes_in_the_precision(precision, dtype):
    ones = torch.ones(2, 2)
    with autocast(precision, "cpu"):
        assert (ones @ ones).dtype == dtype
    assert (ones @ ones).dtype == torch.float32


def test_autocast_names_a_precision_that_it_does_not_know():
    with pytest.raises(UserError, match=r"trainer\.precision=64-true"):
        autocast("64-true", "cpu")


def test_no_windows_give_no_predictions(network):
    found = classifier(network)([])
    assert (len(found), found.probabilities.shape) == (0, (0, 3))


def test_an_explanation_has_five_images_and_a_control_that_differs(network):
    training = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    examples = Examples(training, torch.zeros(20, dtype=torch.int64), tuple("abcdefghijklmnopqrst"))
    figure, table = explained_figure(classifier(network), examples, windows(1), 1, "title")
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    image = figure.axes[0].images[0].get_array()
    _, score, score_random, layer, layer_random = (
        image[:67, 71 * i : 71 * i + 67] for i in range(5)
    )
    assert layer_random.shape == (67, 67, 3)
    assert np.abs(score - score_random).mean() > 0.01
    assert np.abs(layer - layer_random).mean() > 0.01


def test_pixels_are_counted():
    truth = np.array([[0, 0, 1], [-1, 2, 2]])
    read = np.array([[0, 3, 1], [0, -1, 4]])
    assert count_pixels(truth, read, 3).tolist() == [
        [1, 0, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 1],
    ]


def test_dice_follows_its_definition():
    random = np.random.default_rng(3)
    gathered = Agreement(CLASSES)
    truths, reads = random.integers(-1, 3, (2, 6, 10, 10)), random.integers(-1, 6, (2, 6, 10, 10))
    truths, reads = truths[0], reads[0]
    for number, (truth, read) in enumerate(zip(truths, reads, strict=True)):
        gathered.add(f"p{number % 3}", truth, read, np.minimum(read, 2))
    table = gathered.table().set_index("class")
    known = truths >= 0
    for code, name in enumerate(CLASSES):
        a, b = (reads == code) & known, (truths == code) & known
        dice = 2 * (a & b).sum() / (a.sum() + b.sum())
        assert table.loc[name, "dice"] == pytest.approx(dice)
        assert table.loc[name, "dice_low"] <= dice <= table.loc[name, "dice_high"]
        assert table.loc[name, "true_share"] == pytest.approx(b.sum() / known.sum())
        share = a.sum() / ((reads >= 0) & (reads < 5) & known).sum()  # 5: not read
        assert table.loc[name, "read_share"] == pytest.approx(share)
    assert table.loc["mean", "dice"] == pytest.approx(table["dice"][:3].mean())
    assert gathered.patients == ["p0", "p1", "p2"]
    assert gathered.confusion().to_numpy().sum() == known.sum()


def test_a_class_of_one_patient_has_no_interval_of_dice():
    random = np.random.default_rng(4)
    gathered = Agreement(CLASSES)
    for number in range(6):
        truth = random.integers(0, 3 if number == 0 else 2, (10, 10))
        read = np.where(random.random((10, 10)) < 0.7, truth, 0)
        gathered.add(f"p{number}", truth, read, read)
    table = gathered.table().set_index("class")
    ends = table[["dice_low", "dice_high"]].isna().all(axis=1)
    assert dict(ends) == {CLASSES[0]: False, CLASSES[1]: False, CLASSES[2]: True, "mean": True}
    assert table["dice"].notna().all()
