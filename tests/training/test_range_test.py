"""`recipe.optimizer.lr=auto`: the range test, the training that follows, and its resumption."""

import sys

import numpy as np
import pytest
import torch

from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.pipeline import stage as stage_module
from stagetransfer.training.callbacks import SeedEpoch
from stagetransfer.training.range_test import LOWEST, SKIP, RangeTest, smoothed, suggest

AUTO = "recipe.optimizer.lr=auto"
TRANSFER = (
    "+experiment=natural", "recipe.epochs=1", "recipe.min_steps=0", "recipe.bias_rate=2",
    "transfer.rates=[[fc8,3],['.*',1]]", "recipe.gradient_clip_norm=5", "recipe.monitor=last",
    "++stage.natural.recipe.epochs=1", "++stage.natural.recipe.optimizer.lr=0.01",
    "++stage.natural.require_learning=false",
)  # fmt: skip


class Killed(Exception):
    pass


@pytest.fixture
def few_steps(monkeypatch):
    """A range test of 60 steps, which is enough to see what it does."""
    monkeypatch.setattr(sys.modules[RangeTest.__module__], "STEPS", 60)


def test_smoothing_is_a_weighted_mean_of_the_losses_so_far():
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    for count, value in enumerate(smoothed(losses), 1):
        weights = 0.9 ** np.arange(count)[::-1]
        assert value == pytest.approx(np.average(losses[:count], weights=weights))
    assert smoothed([2.0] * 50) == pytest.approx([2.0] * 50)


def test_the_suggestion_is_where_the_loss_falls_most_steeply():
    rates = np.geomspace(1e-6, 1, 100).tolist()
    fall = 2 - 1 / (1 + np.exp(-(np.arange(100) - 50) / 3))  # steepest at step 50
    losses = [*fall[:80], *(fall[79] + np.arange(20) ** 2)]
    # The mean of the last ten losses or so lags behind them.
    assert rates[50] < suggest(rates, losses) < rates[60]
    # A steeper fall after the lowest loss, from an explosion back, is not meant.
    assert rates[50] < suggest(rates, [*losses[:90], 60.0, *[4.0] * 9]) < rates[60]


@pytest.mark.parametrize(
    "losses", [[], [2.0] * (SKIP + 1), [2.0] * 50, np.linspace(1, 5, 60).tolist()]
)
def test_no_rate_is_suggested_where_the_loss_does_not_fall(losses):
    assert suggest(np.geomspace(1e-6, 1, 100).tolist(), losses) is None


def test_the_training_equals_one_with_the_rate_written_out(start, tmp_path, monkeypatch, few_steps):
    seen, end = [], RangeTest.on_train_batch_end

    def spy(self, trainer, module, *arguments):
        groups = {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}
        seen.append((groups, module.recipe.gradient_clip_norm))
        end(self, trainer, module, *arguments)

    monkeypatch.setattr(RangeTest, "on_train_batch_end", spy)
    run = start(tmp_path, *TRANSFER, AUTO).run()
    natural, target = read_json(run / "metrics.json")["stages"]
    assert "learning_rate" not in natural
    found = target["learning_rate"]
    assert found["suggested_by"] == "range test"
    assert len(found["tried"]) <= 60
    rates, losses = map(list, zip(*found["tried"], strict=True))
    assert found["lr"] == suggest(rates, losses)
    assert rates[0] == pytest.approx(LOWEST)
    # The factors of the layers and of the biases, and clipping, as in training.
    for rate, (groups, clip) in zip(rates, seen, strict=False):
        assert groups["conv1.weight"] == pytest.approx(rate)
        assert groups["conv1.bias"] == pytest.approx(2 * rate)
        assert groups["fc8.weight"] == pytest.approx(3 * rate)
        assert clip == 5
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt"}
    by_hand = start(tmp_path, *TRANSFER, f"recipe.optimizer.lr={found['lr']!r}").run()
    assert (by_hand / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    one, other = (
        torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        for folder in (run, by_hand)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_killed_stage_keeps_its_rate_and_a_source_records_it(
    start, tmp_path, monkeypatch, few_steps
):
    """The second range test would find another rate."""
    options = (*TRANSFER, "++stage.natural.recipe.optimizer.lr=auto", "recipe.optimizer.lr=0.01")
    tests, original = [], stage_module.range_test

    def spy(*arguments, **given):
        tests.append(original(*arguments, **given))
        return tests[-1] if len(tests) == 1 else {**tests[-1], "lr": 0.5}

    monkeypatch.setattr(stage_module, "range_test", spy)

    def kill(self, trainer, module):
        if not any(isinstance(one, RangeTest) for one in trainer.callbacks):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SeedEpoch, "on_train_epoch_start", kill)
        with pytest.raises(Killed):
            start(tmp_path, *options).run()
    assert len(tests) == 1
    (file,) = tmp_path.rglob("learning_rate.json")
    found = file.read_text()
    file.write_text('{"lr": null}')
    with pytest.raises(UserError, match="holds no lr"):
        start(tmp_path, *options).run()
    file.write_text(found)
    run = start(tmp_path, *options).run()
    assert len(tests) == 1
    natural, target = read_json(run / "metrics.json")["stages"]
    assert natural["learning_rate"]["lr"] == tests[0]["lr"]
    assert "learning_rate" not in target
    assert not list(tmp_path.rglob("learning_rate.json"))


def test_a_search_multiplies_the_rate_that_was_found(start, tmp_path, few_steps):
    run = start(
        tmp_path, "+experiment=scratch", AUTO, "recipe.min_steps=0", "recipe.search_rates=[2]",
        "recipe.search_epochs=[1]",
    ).run()  # fmt: skip
    record = read_json(run / "metrics.json")
    found = record["stages"][-1]["learning_rate"]["lr"]
    assert record["search_rates"]["lr"] == 2 * found


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["recipe.optimizer.lr=0"], "recipe.optimizer.lr=0: it must be a number greater than 0"),
        (["recipe.optimizer.lr=-1"], "recipe.optimizer.lr=-1: it must be a number greater"),
        (["recipe.optimizer.lr=nan"], "recipe.optimizer.lr=nan: it must be a number greater"),
        (["recipe.optimizer.lr=find"], "recipe.optimizer.lr=find: it must be a number greater"),
        ([AUTO, "trainer.devices=2"], "recipe.optimizer.lr=auto needs trainer.devices=1"),
        (
            ["++stage.natural.recipe.optimizer.lr=auto", "trainer.devices=2"],
            "recipe.optimizer.lr=auto needs trainer.devices=1",
        ),
    ],
)
def test_bad_rates_get_one_line(compose_config, overrides, line):
    with pytest.raises(UserError) as caught:
        validate_config(compose_config("+experiment=natural", *overrides))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
