"""Signals end a command with one line and 128 + n; a crash ends it with one line and 1."""

import os
import queue
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from conftest import ONE_THREAD, REPOSITORY, SMALL, wait_for
from stagetransfer.cli.interruption import Interrupted, interruptible
from stagetransfer.pipeline.sweep import jobs

LONG = ["+experiment=scratch", *SMALL, "recipe.epochs=500"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_becomes_an_exit_code_and_one_line(number, capsys, request):
    inherited = signal.signal(number, signal.SIG_DFL)  # it may be ignored, as under nohup
    request.addfinalizer(lambda: signal.signal(number, inherited))
    before = signal.getsignal(number)
    cleaned = []

    def work():
        try:
            os.kill(os.getpid(), number)
        except Exception:
            cleaned.append("never")
        finally:
            cleaned.append("finally")

    with pytest.raises(SystemExit) as stopped, interruptible("Outer."), interruptible("All kept."):
        work()
    assert stopped.value.code == 128 + number
    assert isinstance(stopped.value, Interrupted)
    assert cleaned == ["finally"]
    assert capsys.readouterr().err == f"stopped by {number.name}. All kept.\n"
    assert signal.getsignal(number) == before


def test_a_queue_is_never_left_half_filled():
    """TensorBoard writes through one, and its reader would otherwise be waited for without end."""

    class Interrupting(queue.Queue):
        def _put(self, item):
            super()._put(item)
            os.kill(os.getpid(), signal.SIGTERM)  # it arrives within put()

    filled, done = Interrupting(), []

    def work():
        filled.put("event")
        done.append(filled.get(timeout=10))
        time.sleep(10)
        done.append("never")

    with pytest.raises(Interrupted), interruptible("All kept."):
        work()
    assert done == ["event"]


def test_an_ignored_signal_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(""):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def not_ignored():
    """In a new process: signals that nohup or a shell's & has set to be ignored are not."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def start(outputs, *words, **options):
    process = subprocess.Popen(
        [sys.executable, "train.py", *words, f"paths.outputs={outputs}"],
        cwd=REPOSITORY, env=ONE_THREAD, text=True, stderr=subprocess.PIPE, preexec_fn=not_ignored,
        **options,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()  # if the test has failed
        process.wait()


def checkpoint(outputs):
    return next(iter(outputs.glob("runs/*/checkpoints/last.ckpt")), None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_training_that_gets_a_signal_keeps_its_epochs(tmp_path, number):
    with start(tmp_path, *LONG, stdout=subprocess.DEVNULL) as process:
        last = wait_for(lambda: checkpoint(tmp_path))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert stderr.splitlines()[-1].startswith(f"stopped by {number.name}. ")
    assert "Traceback" not in stderr
    assert last.is_file()
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.name[0] != ".")
    assert not (run / "metrics.json").exists()
    assert not list(tmp_path.rglob(".last.ckpt.*"))


def test_a_job_of_a_sweep_that_gets_sigterm_is_recorded_and_the_others_go_on(tmp_path):
    words = ["-m", "hydra/launcher=slots", *LONG, "recipe.epochs=400,1"]
    with start(tmp_path, *words, stdout=subprocess.PIPE) as process:
        wait_for(lambda: checkpoint(tmp_path))
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid), "-f", "train.py"], capture_output=True, text=True
        ).stdout.split()
        os.kill(int(children[0]), signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "Traceback" not in stdout + stderr
    (sweep,) = (tmp_path / "sweeps").iterdir()
    first, second = jobs(sweep)
    assert "SIGTERM" in (first.failure or "")
    assert second.failure is None
    assert (second.run / "metrics.json").is_file()


CRASH = """
import sys
from stagetransfer.pipeline import chain
from stagetransfer.cli.train import train

def crash(*_, **__):
    raise ZeroDivisionError("made by the test")

chain.train = crash
train(sys.argv[1:])
"""


def test_a_crash_prints_its_place_and_keeps_its_traceback(tmp_path):
    words = [*LONG, f"paths.outputs={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", CRASH, *words],
        cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ZeroDivisionError: made by the test (<string>:7)")
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.name[0] != ".")
    assert str(run / "failure.log") in line
    assert "Traceback" in (run / "failure.log").read_text()
    assert (run / "failure.txt").read_text().startswith("ZeroDivisionError: made by the test")
    assert "Traceback" not in done.stderr
