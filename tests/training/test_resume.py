"""A killed training continues with the next epoch and ends with the same bits."""

import time
from dataclasses import asdict
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.pipeline import chain
from stagetransfer.training import last_checkpoint
from stagetransfer.training.callbacks import SeedEpoch
from stagetransfer.training.module import ClassifierModule
from stagetransfer.training.watch_losses import Losses, WatchLosses

KILLED_IN = 2  # the epoch, from 0
CASES = {
    "float32": ["+experiment=scratch"],
    "bfloat16": ["+experiment=scratch", "trainer.precision=bf16-mixed"],
    "workers": [
        "+experiment=scratch", "domain.target.workers=2", "domain.target.memory_limit_gib=0",
    ],
    "best epoch": ["+experiment=scratch", "recipe.monitor=accuracy"],
    "frozen features": [
        "+experiment=texture", "transfer.mode=frozen", "domain.target.augment=false",
    ],
    "LP-FT": ["+experiment=texture", "transfer=lpft", "transfer.probe_epochs=2"],
}  # fmt: skip


class Killed(Exception):
    pass


def epochs_of(run_it, monkeypatch, stage, killed_in=None):
    """Run, and return the epochs that the stage began; the process is "killed" in one of them."""
    begun = []
    original = SeedEpoch.on_train_epoch_start

    def on_train_epoch_start(self, trainer, module):
        original(self, trainer, module)
        if trainer.max_epochs == stage:
            begun.append(trainer.current_epoch)
            if trainer.current_epoch == killed_in:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SeedEpoch, "on_train_epoch_start", on_train_epoch_start)
        if killed_in is None:
            return run_it(), begun
        with pytest.raises(Killed):
            run_it()
    return None, begun


def whole_and_resumed(start, tmp_path, monkeypatch, words):
    """The folders of a training of 4 epochs, and of one killed in its third and resumed."""
    whole = start(tmp_path / "whole", *words).run()

    def run():
        return start(tmp_path / "killed", *words).run()

    _, before = epochs_of(run, monkeypatch, 4, KILLED_IN)
    (last,) = (tmp_path / "killed").rglob("last.ckpt")
    state = torch.load(last, weights_only=True)
    saved = state["callbacks"]["MeasureSpeed"]["seconds"]  # which the continued run does not repeat
    began = time.perf_counter()
    folder, after = epochs_of(run, monkeypatch, 4)
    took = time.perf_counter() - began
    assert (before, after) == ([0, 1, 2], [2, 3])
    record = folder / ("metrics.json" if (folder / "metrics.json").is_file() else "stage.json")
    assert 0 < saved < read_json(record)["stages"][-1]["seconds"] < saved + took
    return whole, folder


def check_equal(one, other, name="best.ckpt"):
    states = [torch.load(folder / name, weights_only=True)["state_dict"] for folder in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    "case",
    [case if case == "float32" else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_the_target_continues_where_it_was_killed(start, tmp_path, monkeypatch, case):
    words = [*CASES[case], "recipe.epochs=4", "++stage.texture.recipe.epochs=1"]
    whole, folder = whole_and_resumed(start, tmp_path, monkeypatch, words)
    check_equal(whole / "checkpoints", folder / "checkpoints")
    assert (folder / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    health = [read_json(run / "metrics.json")["stages"][-1]["health"] for run in (whole, folder)]
    assert health[0] == health[1]
    curves = [pd.read_csv(path) for path in sorted((folder / "logs").glob("*target/metrics*.csv"))]
    assert len(curves) == 2


@pytest.mark.parametrize("monitor", ["last", "accuracy"])
def test_short_epochs_are_not_all_saved_and_end_with_the_same_bits(
    start, tmp_path, monkeypatch, monitor
):
    """Each epoch takes 20 s here. best.ckpt can be of a later epoch than last.ckpt."""
    words = [*CASES["float32"], "recipe.epochs=4", f"recipe.monitor={monitor}"]
    words += ["trainer.checkpoint_pause_minutes=0.5"]
    now, saved = [0.0], []
    original = SeedEpoch.on_train_epoch_start
    save = last_checkpoint.LastCheckpoint._save

    def on_train_epoch_start(self, trainer, module):
        now[0] += 20
        original(self, trainer, module)

    def record(self, trainer):
        saved.append(trainer.current_epoch)
        save(self, trainer)

    monkeypatch.setattr(SeedEpoch, "on_train_epoch_start", on_train_epoch_start)
    monkeypatch.setattr(last_checkpoint.LastCheckpoint, "_save", record)
    monkeypatch.setattr(last_checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def run(folder):
        return start(tmp_path / folder, *words).run()

    whole = run("whole")
    assert saved == [0, 2]
    _, before = epochs_of(lambda: run("killed"), monkeypatch, 4, KILLED_IN)
    folder, after = epochs_of(lambda: run("killed"), monkeypatch, 4)
    assert (before, after) == ([0, 1, 2], [1, 2, 3])
    assert saved == [0, 2, 0, 2]
    check_equal(whole / "checkpoints", folder / "checkpoints")
    assert (folder / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_weights_of_an_epoch_that_the_resumed_training_did_not_choose_are_refused(
    start, tmp_path, monkeypatch
):
    """As after a kill where computations are not deterministic: best.ckpt is of a lost epoch."""
    words = [*CASES["float32"], "recipe.epochs=2", "recipe.monitor=accuracy"]

    def run():
        return start(tmp_path, *words).run()

    epochs_of(run, monkeypatch, 2, killed_in=1)
    (last,), (best,) = (list(tmp_path.rglob(f"{name}.ckpt")) for name in ("last", "best"))
    state = torch.load(last, weights_only=True)
    unreachable = torch.tensor(2.0)
    for name, one in state["callbacks"].items():
        if name == "BestEpoch":
            one["metrics"]["accuracy"] = 2.0
        if "best_model_score" in one:
            one |= {"best_model_score": unreachable, "kth_value": unreachable}
            one["best_k_models"] = dict.fromkeys(one["best_k_models"], unreachable)
    torch.save(state, last)
    torch.save(torch.load(best, weights_only=True) | {"epoch": 1}, best)
    with pytest.raises(UserError, match=r"best\.ckpt: its weights are of epoch 2.*epoch 1 is now"):
        run()


MINUTES = "trainer.checkpoint_every_minutes=30"
HALF = "trainer.val_check_interval=0.5"


@pytest.mark.parametrize(
    ("case", "more"),
    [
        ("float32", [MINUTES]),
        *(
            pytest.param(case, more, marks=pytest.mark.slow)
            for case, more in [
                ("float32", [HALF]),
                ("float32", [HALF, "recipe.monitor=accuracy"]),
                ("float32", [MINUTES, "recipe.balance=sampling"]),
                ("float32", [MINUTES, "trainer.accumulate_grad_batches=2"]),
                *((case, [MINUTES]) for case in CASES if case != "float32"),
            ]
        ),
    ],
)
def test_a_training_continues_within_an_epoch(start, tmp_path, monkeypatch, case, more):
    words = [*CASES[case], "recipe.epochs=4", "++stage.texture.recipe.epochs=1", *more]
    words += ["recipe.batch_size=8", "++domain.target.options.scale=0.2"]
    whole = start(tmp_path / "whole", *words).run()
    kill_in, begun, now = [(2, 9)], [], [0.0]
    original = ClassifierModule.training_step
    monkeypatch.setattr(last_checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def training_step(module, batch, batch_idx):
        place = (module.current_epoch, batch_idx)
        if module.trainer.max_epochs == 4:
            now[0] += 3600 * (place in [(2, 7), (2, 8)])
            begun.append(place)
            if kill_in and place == kill_in[0]:
                kill_in.clear()
                raise Killed
        return original(module, batch, batch_idx)

    monkeypatch.setattr(ClassifierModule, "training_step", training_step)
    with pytest.raises(Killed):
        start(tmp_path / "killed", *words).run()
    killed = begun.copy()
    begun.clear()
    folder = start(tmp_path / "killed", *words).run()
    assert killed[-1] == (2, 9)
    in_epoch = sum(epoch == 0 for epoch, _ in killed)
    if HALF in more:
        saved_after = in_epoch // 2
    else:
        saved_after = 8 if "trainer.accumulate_grad_batches=2" in more else 9
    assert 0 < saved_after <= 9 < in_epoch
    assert begun[0] == (2, saved_after)
    check_equal(whole / "checkpoints", folder / "checkpoints")
    assert (folder / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    health = [read_json(run / "metrics.json")["stages"][-1]["health"] for run in (whole, folder)]
    assert health[0] == health[1]


def test_a_source_continues_where_it_was_killed(start, tmp_path, monkeypatch):
    words = ["chain=[texture]", "++stage.texture.recipe.epochs=4"]
    whole, folder = whole_and_resumed(start, tmp_path, monkeypatch, words)
    check_equal(whole, folder, "model.ckpt")


def test_a_finished_training_is_not_repeated(start, tmp_path, monkeypatch):
    """Killed after the last epoch and before the test."""
    words = ["+experiment=scratch", "recipe.epochs=3"]
    with monkeypatch.context() as patch:
        patch.setattr(chain, "evaluate", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            start(tmp_path, *words).run()
    folder, after = epochs_of(lambda: start(tmp_path, *words).run(), monkeypatch, 3)
    assert after == []
    stage = read_json(folder / "metrics.json")["stages"][-1]
    assert (stage["epochs"], stage["best_epoch"]) == (3, 3)


@pytest.mark.parametrize(("used", "saved"), [(1, False), (2, True), (3, True)])
def test_nothing_is_saved_while_gradients_are_accumulated(tmp_path, monkeypatch, used, saved):
    """A validation within an epoch of three batches; a checkpoint holds no gradients."""
    calls = []
    trainer = SimpleNamespace(
        accumulate_grad_batches=2, is_last_batch=used == 3, current_epoch=0, sanity_checking=False,
        strategy=SimpleNamespace(broadcast=lambda one: one),
    )  # fmt: skip
    callback = last_checkpoint.LastCheckpoint(tmp_path)
    monkeypatch.setattr(callback, "_save", calls.append)
    callback.on_train_batch_end(trainer, None, None, None, used - 1)
    callback.on_validation_end(trainer, None)
    assert bool(calls) is saved


def test_a_stage_continues_on_fewer_gpus(monkeypatch):
    states, given = last_checkpoint._generators(), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.append)
    last_checkpoint._restore_generators({**states, "cuda": ["first", "second"]})
    assert given == [["first"]]


def test_a_stage_that_diverged_before_it_was_killed_is_not_trained_further():
    callback, trainer = WatchLosses(), SimpleNamespace(should_stop=False)
    callback.on_train_start(trainer, None)
    assert not trainer.should_stop
    callback.load_state_dict({"losses": asdict(Losses(diverged_in=2)), "of_epoch": []})
    callback.on_train_start(trainer, None)
    assert trainer.should_stop
