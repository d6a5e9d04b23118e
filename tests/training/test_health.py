"""Health: what a training's losses and validation images say, from dead trainings to good ones."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.reporting.write_report import make_report
from stagetransfer.training import Fitted, Losses, TransferRecord
from stagetransfer.training.health import (
    _dead_shares,
    _still_improving,
    _watched_relus,
    health_of,
)

CLASSES = ("a", "b", "c", "d")


def health(predicted, labels, losses=None, **options):
    losses = losses or Losses(first=1.4, largest=1.5, last=0.2, validation=[1.0], steps=300)
    fitted = Fitted(Path(), 1, 1, 1.0, 1.0, {}, losses, TransferRecord())
    probabilities = np.eye(4)[np.asarray(predicted)]
    return health_of(fitted, np.asarray(labels), probabilities, None, CLASSES, {}, **options)


LABELS = np.tile(np.arange(4), 25)


def test_a_network_that_is_right_has_learned_and_needs_no_remark():
    found = health(LABELS, LABELS)
    assert (found.verdict, found.learned, found.remarks) == ("learned", True, [])
    assert found.recall == 1
    assert found.low > found.chance == 0.25
    assert found.chance_loss == pytest.approx(math.log(4))
    json.dumps(found.record, allow_nan=False)


def test_one_class_for_every_image():
    found = health(np.full(100, 2), LABELS)
    assert found.verdict == "constant output"
    assert not found.learned
    assert found.recall == 0.25
    assert found.never_predicted == ["a", "b", "d"]


def test_guesses_are_not_above_chance():
    found = health(np.random.default_rng(0).integers(0, 4, 100), LABELS)
    assert found.verdict == "not above chance"
    assert found.low < 0.25


@pytest.mark.parametrize("size", [2, 4])
def test_a_few_images_cannot_show_that_it_learned(size):
    found = health([0, 1, 2, 2][:size], [0, 1, 2, 3][:size])
    assert not found.learned
    assert found.few_validation_images
    assert found.unclear
    assert found.line.startswith("NOT CLEARLY ABOVE CHANCE: ")
    assert f"{size} validation images are too few to tell." in found.remarks


def test_a_class_that_is_never_predicted_is_named():
    found = health(np.where(LABELS == 3, 0, LABELS), LABELS)
    assert found.verdict == "learned"
    assert found.never_predicted == ["d"]
    assert any("Never predicted: d" in remark for remark in found.remarks)


def test_of_many_classes_the_remark_names_a_few():
    """A remark with all names made metrics.json unreadable for reports."""
    names = [f"class {number:03d}" for number in range(600)]
    labels = np.repeat(np.arange(500), 2)
    fitted = Fitted(Path(), 1, 1, 1.0, 1.0, {}, Losses(first=6.3, largest=6.3), TransferRecord())
    found = health_of(fitted, labels, np.eye(600)[labels % 250], None, names, {})
    assert len(found.never_predicted) == 250
    assert {len(remark) < 300 for remark in found.remarks} == {True}
    assert any("and 242 more" in remark for remark in found.remarks)
    assert any("and 92 more" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        (Losses(first=8.8, largest=8.8, steps=9), "first loss was 8.8"),
        (Losses(first=1.4, largest=47.0, steps=9), "rose to 47"),
        (Losses(first=1.4, largest=2.0, steps=9, validation=[2, 1.5, 1.2, 1.0]), "Still improving"),
        (Losses(first=1.4, largest=math.inf, steps=9, diverged_in=3), "epoch 3"),
    ],
)
def test_what_the_losses_say_is_said(losses, word):
    remarks = health(LABELS, LABELS, losses).remarks
    assert len(remarks) == 1
    assert word in remarks[0]


def test_a_training_that_diverged_has_not_learned_whatever_it_predicts():
    assert health(LABELS, LABELS, Losses(diverged_in=1)).verdict == "diverged"


@pytest.mark.parametrize(
    ("losses", "improving"),
    [
        ([], False),
        ([1.0], False),
        ([1.0, 0.9], True),
        ([1.0, 0.99], False),
        ([0.9, 1.0], False),
        ([3, 2, 1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], False),
        ([3, 2.8, 2.6, 2.4, 2.2, 2.0, 1.8, 1.6, 1.4, 1.2], True),
        ([3, 2.8, 2.6, 1.1, 2.2, 2.0, 1.8, 1.6, 1.4, 1.2], False),
    ],
)
def test_still_improving_compares_the_last_fifth_with_the_fifth_before(losses, improving):
    assert _still_improving(losses) is improving


def test_dead_units_are_counted_over_all_batches():
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0], [0, 1.0], [-1.0, 0], [0, 0]]))
        network[0].bias.zero_()
        with _watched_relus(network) as used:
            network(torch.tensor([[1.0, 0.0]]))
            network(torch.tensor([[0.0, 1.0]]))
        network(torch.tensor([[-1.0, 0.0]]))  # no longer watched
    assert used["1"][4].tolist() == [True, True, False, False]
    assert _dead_shares(used) == {"1": 0.5}


class OneReluForTwoLayers(nn.Module):
    """As in torchvision's ResNet-50, whose blocks call one ReLU for 64 and for 256 channels."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide, self.relu = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 3, 1), nn.ReLU()

    def forward(self, images):
        return self.relu(self.narrow(images)), self.relu(self.wide(images))


def test_one_relu_at_two_widths():
    network = OneReluForTwoLayers()
    with torch.no_grad():
        for layer in (network.narrow, network.wide):
            layer.weight.fill_(1)
            layer.bias.zero_()
        network.wide.weight[1:] = -1
        with _watched_relus(network) as used:
            network(torch.ones(2, 1, 4, 4))
            network(torch.ones(1, 1, 4, 4))
    assert _dead_shares(used) == {"relu": 0.5}  # two of four units


@pytest.mark.slow
def test_a_network_of_bottlenecks_is_trained_to_the_end(start, tmp_path):
    start(
        tmp_path, "+experiment=scratch", "model=resnet50", "model.input_size=32",
        "trainer.fast_dev_run=true", "recipe.epochs=1", "recipe.min_steps=0",
    ).run()  # fmt: skip
    record = json.loads(next(tmp_path.glob("runs/*/metrics.json")).read_text())
    assert 0 <= record["stages"][-1]["health"]["dead_relus"]["net.layer1.0.relu"] <= 1


RATE_10 = (
    "recipe.optimizer.lr=10", "recipe.gradient_clip_norm=null", "recipe.monitor=cross_entropy",
)  # fmt: skip


@pytest.mark.parametrize("clip", ["null", "5.0"])
def test_a_source_that_learned_nothing_is_an_error_and_is_not_published(start, tmp_path, clip):
    runner = start(
        tmp_path, "+experiment=natural", *RATE_10, f"recipe.gradient_clip_norm={clip}",
        "++stage.natural.require_learning=true",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"^stage natural: DID NOT LEARN .*chance 0\.100") as caught:
        runner.run()
    assert "recipe.optimizer.lr" in str(caught.value)
    assert "++stage.natural.require_learning=false" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "stages").glob("*/DONE"))
    assert not (runner.folder / "metrics.json").exists()
    assert (runner.folder / "failure.txt").read_text().startswith("stage natural: DID NOT LEARN")
    again = start(
        tmp_path, "+experiment=natural", *RATE_10, f"recipe.gradient_clip_norm={clip}",
        "++stage.natural.require_learning=true",
    )  # fmt: skip
    assert again.stages[0].key == runner.stages[0].key


@pytest.mark.parametrize("monitor", ["last", "cross_entropy"])
def test_dead_trainings_are_finished_marked_and_never_compared(start, tmp_path, caplog, monitor):
    caplog.set_level("INFO")
    runs = [
        start(
            tmp_path, f"+experiment={condition}", f"seed={seed}", f"ratio={ratio}",
            f"++stage.target.recipe.monitor={monitor}", "++stage.target.recipe.optimizer.lr=10",
            "++stage.target.recipe.gradient_clip_norm=null",
        ).run()
        for condition in ("scratch", "natural")
        for seed in (0, 1)
        for ratio in (0.5, 1.0)
    ]  # fmt: skip
    for run in runs:
        record = read_json(run / "metrics.json")
        target = record["stages"][-1]["health"]
        assert not target["learned"]
        assert target["verdict"] in ("diverged", "constant output", "not above chance")
        assert 0 <= record["test"]["accuracy"] <= 1
    assert sum("DID NOT LEARN" in line for line in caplog.messages) >= len(runs)
    out = make_report([tmp_path], count=50)
    page = re.sub("<[^>]+>", " ", (out / "report.html").read_text())
    assert "did not learn in 2 of 2 runs" in " ".join(page.split())
    assert not re.search(r"\bevidence of a difference \(p", page)
    for table in (out / "tables").glob("*.csv"):
        rows = table.read_text().splitlines()
        columns = rows[0].split(",")
        for column in ("p", "p_holm", "low", "high"):
            if column in columns and {"a", "b"} <= {*columns}:
                at = columns.index(column)
                assert all(row.split(",")[at] == "" for row in rows[1:]), table.name
