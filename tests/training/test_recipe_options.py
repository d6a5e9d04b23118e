"""Clipping, label smoothing, the schedule of our recipes, and the choice of the last epoch."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from stagetransfer.files import read_json
from stagetransfer.pipeline.stage import prepare
from stagetransfer.training import warmup_cosine

ONE_STEP = (
    "+experiment=scratch", "recipe.epochs=1", "recipe.batch_size=1000", "recipe.scheduler=null",
    "recipe.optimizer.lr=1", "recipe.optimizer.momentum=0", "recipe.optimizer.weight_decay=0",
)  # fmt: skip


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_step_is_no_longer_than_the_norm_that_is_allowed(start, tmp_path, precision, fused):
    """With a rate of 1 and one step, the change of the weights is the gradient."""

    def change(norm):
        runner = start(
            tmp_path / str(norm), *ONE_STEP, f"recipe.gradient_clip_norm={norm}",
            f"trainer.precision={precision}", f"recipe.optimizer.fused={fused}",
            "model.initialisation=kaiming",
        )  # fmt: skip
        before, _, _ = prepare(runner.stages[-1], runner.config)
        path = runner.run() / "checkpoints" / "best.ckpt"
        after = torch.load(path, weights_only=True)["state_dict"]
        squares = [
            (after[f"network.net.{name}"] - value).square().sum()
            for name, value in before.network.state().items()
        ]
        return math.sqrt(sum(squares))

    free = change("null")
    assert change(free / 4) == pytest.approx(free / 4, rel=0.02)
    assert change(free * 4) == pytest.approx(free, rel=0.02)


def test_label_smoothing_applies_to_the_training_loss_alone(start, tmp_path):
    runner = start(tmp_path, "+experiment=scratch", "recipe.label_smoothing=0.2")
    module, _, _ = prepare(runner.stages[-1], runner.config)
    logits, labels = torch.randn(8, 7), torch.arange(8) % 7
    expected = 0.8 * F.cross_entropy(logits, labels) - 0.2 * logits.log_softmax(1).mean()
    assert float(module.loss(logits, labels)) == pytest.approx(float(expected), rel=1e-5)


def test_the_rate_rises_over_a_tenth_of_the_steps_and_falls_to_nothing():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = warmup_cosine(optimizer, total_steps=100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.005)
    assert rates[10] == max(rates) == 0.5
    assert rates[55] == pytest.approx(0.25)
    assert 0 < rates[99] < 0.001


def test_the_last_epoch_is_taken_though_another_was_better(start, tmp_path):
    words = ["+experiment=scratch", "recipe.epochs=8", "recipe.scheduler=null"]
    run = start(tmp_path, *words, "recipe.optimizer.lr=0.1").run()
    (file,) = (run / "logs").glob("*target/metrics.csv")
    losses = pd.read_csv(file)["validation/cross_entropy"].dropna().tolist()
    assert len(losses) == 8
    assert min(losses) < losses[-1]
    stage = read_json(run / "metrics.json")["stages"][-1]
    assert stage["best_epoch"] == 8
    assert stage["validation"]["cross_entropy"] == pytest.approx(losses[-1], rel=1e-5)
    table = pd.read_csv(run / "validation.csv")
    chosen = [row[f"p_{row['label']}"] for _, row in table.iterrows()]
    assert -np.log(chosen).mean() == pytest.approx(losses[-1], rel=1e-4)


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.max_steps=18"],
        ["trainer.val_check_interval=0.7"],
        ["trainer.val_check_interval=2"],
    ],
)
def test_the_last_weights_are_those_that_were_validated(start, tmp_path, words):
    words = ["+experiment=scratch", "recipe.epochs=3", "recipe.scheduler=null", *words]
    runner = start(tmp_path, *words, "recipe.optimizer.lr=0.05")
    assert -(-runner.stages[-1].data.count("train") // 16) == 7
    run = runner.run()
    stage = read_json(run / "metrics.json")["stages"][-1]
    assert (stage["epochs"], stage["best_epoch"]) == (3, 3)
    table = pd.read_csv(run / "validation.csv")  # of the weights that are kept
    chosen = [row[f"p_{row['label']}"] for _, row in table.iterrows()]
    assert stage["validation"]["cross_entropy"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
