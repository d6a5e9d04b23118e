import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from stagetransfer.statistics import classification_metrics

NAMES = ("CON", "GGO", "NOR", "EMP")


def predictions(seed, n=200, classes=4):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_agrees_with_scikit_learn(seed):
    labels, p = predictions(seed)
    found = classification_metrics(labels, p, NAMES)
    prediction = p.argmax(1)
    expected = {
        "accuracy": metrics.accuracy_score(labels, prediction),
        "precision": metrics.precision_score(labels, prediction, average="macro", zero_division=0),
        "recall": metrics.recall_score(labels, prediction, average="macro"),
        "f1": metrics.f1_score(labels, prediction, average="macro"),
        "cross_entropy": metrics.log_loss(labels, p),
        "auroc": metrics.roc_auc_score(labels, p, multi_class="ovr", average="macro"),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-9)
    report = metrics.classification_report(
        labels, prediction, target_names=NAMES, output_dict=True, zero_division=0
    )
    for name in NAMES:
        for key, other in (("f1", "f1-score"), ("recall", "recall"), ("precision", "precision")):
            assert found["per_class"][name][key] == pytest.approx(report[name][other], abs=1e-9)
        assert found["per_class"][name]["support"] == report[name]["support"]


def test_of_three_images_by_hand():
    found = classification_metrics([0, 0, 1], [[0.5, 0.5], [0.2, 0.8], [0.0, 1.0]], ("a", "b"))
    assert found["confusion"] == [[1, 1], [0, 1]]  # rows are labels
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(0.75)
    assert found["cross_entropy"] == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 3)
    assert found["auroc"] == 1.0


def test_the_result_can_be_written_as_json():
    labels, p = predictions(0)
    found = classification_metrics(labels, p.astype(np.float32), NAMES)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {
        *("accuracy", "precision", "recall", "f1", "cross_entropy", "auroc"),
        *("classes_averaged", "per_class", "confusion"),
    }


def test_a_class_without_images():
    found = classification_metrics([0, 0, 1], np.eye(3)[[0, 0, 1]], ("a", "b", "c"))
    for name in ("precision", "recall", "f1", "auroc", "accuracy"):
        assert found[name] == 1
    assert found["classes_averaged"] == 2
    assert found["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    json.dumps(found, allow_nan=False)


def test_a_probability_of_zero_gives_a_finite_loss():
    found = classification_metrics([0], [[0.0, 1.0]], ("a", "b"))
    assert found["cross_entropy"] == pytest.approx(-np.log(2**-52))


@pytest.mark.parametrize(
    ("labels", "p", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "probabilities must be"),
        ([0, 2], [[0.5, 0.5]] * 2, "labels must lie in 0..1"),
        ([], np.empty((0, 2)), "n > 0"),
        ([0.5], [[0.5, 0.5]], "integers"),
        ([0], [[np.nan, 0.5]], "numbers from 0 to 1"),
        ([0], [[3.0, -2.0]], "numbers from 0 to 1"),
    ],
)
def test_unfit_arrays_are_refused(labels, p, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(labels, p, ("a", "b"))
