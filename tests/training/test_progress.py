"""The progress of a stage: the time left, on a terminal of 80 columns and elsewhere."""

import io
import logging
import os
import re
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from stagetransfer.pipeline.sweep import Job, time_left
from stagetransfer.training import progress
from stagetransfer.training.callbacks import MeasureSpeed

VALUES = {"cross_entropy": 2.5, "accuracy": 0.25, "recall": 0.125}


@pytest.fixture
def half_way(monkeypatch):
    """A function that trains half of a stage: 5 of 10 steps on 100 images, in 100 seconds."""

    def trained(later, end=False, steps=5):
        trainer = SimpleNamespace(
            global_step=0, estimated_stepping_batches=10, is_global_zero=True, current_epoch=0,
            max_epochs=2, sanity_checking=False,
            callback_metrics={f"validation/{k}": torch.tensor(v) for k, v in VALUES.items()},
        )  # fmt: skip
        speed, now = MeasureSpeed(), [0.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
        shown = progress.StageProgress("2-texture", speed, later)
        shown.on_train_start(trainer, None)
        now[0], trainer.global_step, speed.images, speed.training_seconds = 100.0, steps, 100, 50.0
        shown.on_validation_end(trainer, None)
        shown.on_train_batch_end(trainer)
        trainer.callback_metrics["validation/accuracy"] = torch.tensor(0.75)
        if end:
            shown.on_validation_end(trainer, None)
            trainer.current_epoch = 1  # the number of finished epochs, as Lightning counts then
            shown.on_train_end(trainer, None)
        else:
            shown.on_exception(trainer, None, KeyboardInterrupt())

    return trained


@pytest.mark.parametrize(
    ("later", "left"),
    [(3600, "left: stage 0:01:40, chain 1:01:40"), (0, "0:01:40"), (None, "0:01:40")],
)
def test_a_log_has_the_time_left_for_stage_and_chain(half_way, caplog, later, left):
    with caplog.at_level(logging.INFO):
        half_way(later)
    (line,) = caplog.messages
    assert line.startswith("  2-texture epoch 1/2  2 img/s  val: loss 2.500 acc 0.250 recall 0.125")
    assert line.endswith(left)


@pytest.mark.parametrize(
    ("end", "parts"),
    [
        (False, ("2-texture", "1/2", "left: stage 0:01:40, chain 1:01:40", "acc 0.250")),
        (True, ("2-texture", "1/2", "took 0:01:40", "acc 0.750")),
    ],
)
def test_a_terminal_of_80_columns_shows_it_in_one_line(half_way, monkeypatch, end, parts):
    monkeypatch.setattr("sys.stdout", terminal := io.StringIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    console = Console(file=terminal, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda: console)
    half_way(3600, end)
    text = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", terminal.getvalue())
    last = [line.strip("\r ") for line in re.split(r"[\r\n]+", text) if line.strip()][-1]
    for part in parts:
        assert part in last
    assert len(last) <= 80


def test_before_the_first_optimiser_step_the_time_left_is_unknown(half_way, caplog):
    """Several batches may be accumulated for it."""
    with caplog.at_level(logging.INFO):
        half_way(3600, steps=0)
    assert caplog.messages[0].endswith("left: unknown")


def test_the_time_left_for_a_sweep_counts_only_jobs_that_trained(tmp_path, monkeypatch):
    seconds = {0: 100.0, 1: None, 2: 300.0}  # the second was finished before
    monkeypatch.setattr(Job, "seconds", property(lambda job: seconds[job.number]))
    begun = [Job(tmp_path, number) for number in seconds]
    assert time_left(begun, 9).split()[2] == "0:30:00"
    assert time_left(begun, 9, at_a_time=3).split()[2] == "0:10:00"
    assert time_left(begun[1:2], 9) == time_left(begun, 0) == ""


def test_a_job_trained_from_its_record_to_its_result(tmp_path):
    job, run = Job(tmp_path / "0", 0), tmp_path / "run"
    assert job.seconds is None
    job.begin(["seed=0"], run)
    run.mkdir()
    (run / "metrics.json").write_text("{}")
    record = (tmp_path / "0" / "job.json").stat().st_mtime
    os.utime(run / "metrics.json", (record, record + 60))
    assert job.seconds == pytest.approx(60)
    os.utime(run / "metrics.json", (record, record - 60))  # finished before the job began
    assert job.seconds is None
