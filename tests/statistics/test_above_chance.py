import numpy as np
import pytest
from scipy import stats

from stagetransfer.statistics import macro_recall_interval


def test_values_by_hand():
    """Two classes, images as groups: each recall is a proportion with its own variance."""
    labels = np.repeat([0, 1], [50, 150])
    predictions = labels.copy()
    predictions[:10] = 1  # recall 40 / 50
    predictions[50:80] = 0  # recall 120 / 150
    recall, low, high = macro_recall_interval(labels, predictions, None, 2)
    variance = 200 / 199 * (0.8 * 0.2 / 50 + 0.8 * 0.2 / 150) / 4
    guessing = (0.25 / 50 + 0.25 / 150) / 4
    assert guessing > variance
    half = stats.t.ppf(0.975, 199) * np.sqrt(guessing)
    assert (recall, low, high) == pytest.approx((0.8, 0.8 - half, 0.8 + half))


def test_groups_that_are_right_or_wrong_together_count_once():
    labels, groups = np.repeat([0, 1], 200), np.repeat(np.arange(40), 10)
    predictions = np.where(groups % 2 == 0, labels, 1 - labels)
    recall, low, high = macro_recall_interval(labels, predictions, groups, 2)
    # Each group's influence is +-(10 / 2) / 200 / 2.
    half = stats.t.ppf(0.975, 39) * np.sqrt(40 / 39 * 40 * 0.0125**2)
    assert (recall, low, high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    _, by_images, _ = macro_recall_interval(labels, predictions, None, 2)
    assert low < by_images


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_constant_output_is_at_chance_with_an_interval(classes):
    labels = np.repeat(np.arange(classes), 20)
    recall, low, high = macro_recall_interval(labels, np.zeros_like(labels), None, classes)
    assert recall == pytest.approx(1 / classes)
    assert low < 1 / classes < high


def test_a_class_without_images_does_not_count():
    recall, _, _ = macro_recall_interval([0, 0, 2, 2], [0, 1, 2, 2], None, 4)
    assert recall == 0.75


def test_one_group_tells_nothing_and_ends_are_clipped():
    assert macro_recall_interval([0, 1, 1], [0, 1, 0], ["a"] * 3, 2) == (0.75, 0.0, 1.0)
    recall, low, high = macro_recall_interval([0, 1, 1, 0], [0, 1, 1, 0], None, 2)
    assert (recall, high) == (1.0, 1.0)
    assert 0 <= low < 1


def test_neither_the_order_of_images_nor_the_names_of_groups_matter():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 3, (2, 90))
    groups, order = rng.integers(0, 12, 90), rng.permutation(90)
    expected = macro_recall_interval(labels, predictions, groups, 3)
    names = np.array([f"p{group}" for group in groups])
    again = macro_recall_interval(labels[order], predictions[order], names[order], 3)
    assert again == pytest.approx(expected)


@pytest.mark.parametrize(
    ("skill", "patients", "spread"),
    [(0.0, 30, 0.0), (0.0, 30, 1.0), (0.8, 30, 1.0), (0.8, 60, 0.5), (0.0, 12, 0.0)],
)
def test_the_interval_contains_the_true_recall_as_often_as_it_says(skill, patients, spread):
    """Three classes of unequal size; each patient has images of one class and an ease of its own.

    Without skill, the predictions do not depend on the label, and the truth is chance.
    """
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(patients), 8)
    labels = np.array([0, 0, 0, 1, 1, 2])[groups % 6]

    def predict(labels, groups, count):
        scores = rng.normal(size=(len(labels), 3))
        scores += spread * rng.normal(size=(count, 3))[groups]
        scores[np.arange(len(labels)), labels] += skill
        return scores.argmax(1)

    many = np.arange(30_000)
    truth = np.mean([(predict(np.full(30_000, k), many, 30_000) == k).mean() for k in range(3)])
    found = np.array(
        [
            macro_recall_interval(labels, predict(labels, groups, patients), groups, 3)
            for _ in range(600)
        ]
    )
    inside = (found[:, 1] <= truth) & (truth <= found[:, 2])
    assert 0.90 <= inside.mean() <= 0.995
    if not skill:  # a run that guesses is hardly ever taken for one that learned
        assert (found[:, 1] > 1 / 3).mean() <= 0.05


def test_unfit_arrays_are_refused():
    for arrays in (([], [], None), ([0, 1], [0], None), ([0, 1], [0, 1], ["a"])):
        with pytest.raises(ValueError, match="must be"):
            macro_recall_interval(*arrays, 2)
