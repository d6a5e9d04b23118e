"""The judge: its marks, its distances, its scores as the run's own; agreement with the truth."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stagetransfer.inference.agreement import Agreement, crossed
from stagetransfer.inference.calibrated_classifier import Judge, distance
from stagetransfer.inference.explanation import reason
from stagetransfer.models import AlexNet, initialise

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def network():
    result = AlexNet(3, input_size=67).eval()
    initialise(result, "kaiming", generator=torch.Generator().manual_seed(0))
    return result


def judge(network, **options):
    given = {"temperature": 2.0, "limit": 2.0, "certain": 0.0, "mean": [0.5] * 3, "std": [0.25] * 3}
    features = F.normalize(torch.rand(20, 4096, generator=torch.Generator().manual_seed(1)))
    return Judge(network, CLASSES, features=features, **{**given, **options})


def windows(count=5):
    random = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 1, 32, 32), generator=random, dtype=torch.uint8)


def test_probabilities_are_the_networks_at_the_temperature(network):
    images = windows()
    one = judge(network)
    found = one(images.split(2))
    with torch.no_grad():
        logits = network(one.inputs(images)).double()
    # In batches of another size float32 rounds otherwise.
    np.testing.assert_allclose(found.probabilities, (logits / 2).softmax(1), atol=5e-5)
    np.testing.assert_array_equal(found.codes, logits.argmax(1))


def test_distance_is_to_the_kth_nearest():
    features, others = (F.normalize(torch.randn(n, 6)) for n in (4, 9))
    expected = torch.cdist(features, others).sort(dim=1).values[:, 2]
    torch.testing.assert_close(distance(features, others.T, 3), expected, rtol=1e-4, atol=1e-4)


def test_marks_stand_before_classes(network):
    logits = np.log([[0.9, 0.05, 0.05], [0.4, 0.35, 0.25], [0.9, 0.05, 0.05]])
    one = judge(network, temperature=1.0, certain=0.5, limit=0.3)
    found = one.verdicts(logits, np.array([0.1, 0.2, 0.31]))
    assert [one.codes[code] for code in found.codes] == [
        "a",
        "uncertain",
        "unlike the training data",
    ]
    assert found.forced.tolist() == [0, 0, 0]


def test_no_windows_give_no_verdicts(network):
    found = judge(network)([])
    assert (len(found), found.probabilities.shape) == (0, (0, 3))


def test_a_reason_has_five_pictures_and_a_control_that_differs(network):
    found = reason(judge(network), windows(1), 1)
    assert {tuple(p.shape) for p in vars(found).values()} == {(1, 3, 67, 67)}
    assert not torch.allclose(found.score, found.score_random)


def test_crossed_counts_pixels():
    truth = np.array([[0, 0, 1], [-1, 2, 2]])
    read = np.array([[0, 3, 1], [0, -1, 4]])
    assert crossed(truth, read, 3).tolist() == [
        [1, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_dice_is_that_of_the_definition():
    random = np.random.default_rng(3)
    gathered = Agreement(CLASSES)
    truths, reads = random.integers(-1, 3, (2, 6, 10, 10)), random.integers(-1, 5, (2, 6, 10, 10))
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
        share = a.sum() / ((reads >= 0) & known).sum()
        assert table.loc[name, "read_share"] == pytest.approx(share)
    assert table.loc["mean", "dice"] == pytest.approx(table["dice"][:3].mean())
    assert gathered.patients == ["p0", "p1", "p2"]
    assert gathered.confusion().to_numpy().sum() == known.sum()
