"""The length of a training: epochs, the least number of steps, and trainings that are too short."""

import pytest

from stagetransfer.config.schema import Recipe, Trainer
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.training import planned_epochs
from stagetransfer.training.callbacks import MeasureSpeed
from stagetransfer.training.length import FEWEST_STEPS, batches_per_epoch


def recipe(**settings):
    return Recipe(**{"epochs": 60, "batch_size": 256, "optimizer": {"lr": 0.1}, **settings})


@pytest.mark.parametrize(
    ("images", "settings", "trainer", "batches"),
    [
        (256, {}, {}, 1),
        (257, {}, {}, 2),
        (100, {"batch_size": 32}, {}, 4),
        (100, {"batch_size": 32}, {"devices": 2}, 2),
        (65, {"batch_size": 32}, {"devices": 2}, 1),  # one image of 65 is left out
        (1000, {"batch_size": 10}, {"limit_train_batches": 7}, 7),
        (1000, {"batch_size": 10}, {"limit_train_batches": 0.25}, 25),
        (1000, {"batch_size": 10}, {"accumulate_grad_batches": 3}, 100),
    ],
)
def test_batches_of_an_epoch(images, settings, trainer, batches):
    assert batches_per_epoch(recipe(**settings), Trainer(**trainer), images) == batches


@pytest.mark.parametrize(
    ("images", "split", "trainer", "key"),
    [
        (90, "validation", {"limit_val_batches": 0.1}, "trainer.limit_val_batches=0.1"),
        (90, "train", {"limit_train_batches": 0.1}, "trainer.limit_train_batches=0.1"),
        (7, "validation", {"devices": 8}, "trainer.devices=8"),
    ],
)
def test_no_batch_at_all_is_refused(images, split, trainer, key):
    """Lightning's own check comes in `fit`, perhaps after a source was trained."""
    own = recipe(batch_size=10)
    with pytest.raises(UserError, match=f"{key}: .*split {split}"):
        batches_per_epoch(own, Trainer(**trainer), images, split)
    assert batches_per_epoch(own, Trainer(), images, split) == -(-images // 10)
    assert batches_per_epoch(own, Trainer(limit_val_batches=0.3), 90, "validation") == 2


def test_the_papers_recipe_on_few_images_is_refused():
    """TLtools at r = 0.2 of a thousand images: 60 epochs of one batch."""
    with pytest.raises(UserError, match="only 60 optimiser steps"):
        planned_epochs(recipe(), Trainer(), 220, "stage target")
    assert planned_epochs(recipe(), Trainer(), 256 * FEWEST_STEPS, "stage target") == 60


@pytest.mark.parametrize(("least", "epochs"), [(0, 60), (60, 60), (61, 61), (200, 200)])
def test_epochs_are_added_for_the_least_number_of_steps(least, epochs):
    assert planned_epochs(recipe(min_steps=least), Trainer(), 220, "stage target") == epochs


@pytest.mark.parametrize("limit", [{"fast_dev_run": True}, {"max_steps": 3}, {"max_time": "00:01"}])
def test_lightnings_own_limits_are_left_alone(limit):
    assert planned_epochs(recipe(min_steps=500), Trainer(**limit), 220, "stage target") == 60


def test_a_run_takes_the_steps_and_linear_probing_is_stretched(start, tmp_path, monkeypatch):
    probed = []
    original = MeasureSpeed.on_train_batch_end

    def on_train_batch_end(self, trainer, module, *rest):
        if trainer.max_epochs == 4:
            probed.append(not module.network.net.conv1.weight.requires_grad)
        original(self, trainer, module, *rest)

    monkeypatch.setattr(MeasureSpeed, "on_train_batch_end", on_train_batch_end)
    runner = start(
        tmp_path, "+experiment=natural", "recipe.min_steps=25", "transfer.probe_epochs=1",
        "++stage.natural.recipe.min_steps=0",
    )  # fmt: skip
    steps = -(-runner.stages[-1].data.count("train") // 16)
    assert runner.stages[-1].epochs == -(-25 // steps) == 4
    stage = read_json(runner.run() / "metrics.json")["stages"][-1]
    assert stage["health"]["steps"] == 4 * steps >= 25
    assert probed == [True] * 2 * steps + [False] * 2 * steps


def test_a_stage_without_validation_is_refused():
    rare = Trainer(check_val_every_n_epoch=61)
    with pytest.raises(UserError, match="check_val_every_n_epoch=61: stage target has 60 epochs"):
        planned_epochs(recipe(batch_size=55), rare, 220, "stage target")
    assert planned_epochs(recipe(batch_size=55, epochs=61), rare, 220, "stage target") == 61


def test_a_last_epoch_without_validation_is_refused_if_it_is_the_one_that_counts():
    rare = Trainer(check_val_every_n_epoch=7)
    with pytest.raises(UserError, match=r"check_val_every_n_epoch=7: .*60 epochs"):
        planned_epochs(recipe(batch_size=55, monitor="last"), rare, 220, "stage target")
    assert planned_epochs(recipe(batch_size=55), rare, 220, "stage target") == 60
    rare = Trainer(check_val_every_n_epoch=6)
    assert planned_epochs(recipe(batch_size=55, monitor="last"), rare, 220, "stage target") == 60


def test_an_epoch_without_validation_is_refused():
    """Lightning's own check comes in `fit`, after the run folder is made."""
    few = Trainer(val_check_interval=5)
    with pytest.raises(UserError, match="val_check_interval=5: an epoch of stage target has 4"):
        planned_epochs(recipe(batch_size=55), few, 220, "stage target")
    with pytest.raises(UserError, match="target has 1 batches"):
        planned_epochs(
            recipe(batch_size=10), Trainer(val_check_interval=5, fast_dev_run=True), 220, "target"
        )
    assert planned_epochs(recipe(batch_size=44), few, 220, "stage target") == 60
    for share in (0.5, "00:00:01:00"):
        trainer = Trainer(val_check_interval=share)
        assert planned_epochs(recipe(batch_size=55), trainer, 220, "stage target") == 60
