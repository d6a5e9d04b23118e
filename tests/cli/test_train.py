"""`python train.py` as a process: exit codes, one line on bad input, nothing half-written."""

import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from conftest import REPOSITORY, SMALL
from stagetransfer.files import read_json


def train(*overrides, **options):
    command = [sys.executable, "train.py", *overrides]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, **options
    )


@pytest.fixture
def patches(tmp_path):
    """Two classes with four patients each, as a table."""
    lines = ["file,label,patient"]
    for i in range(24):
        name = f"{i}.png"
        Image.new("L", (32, 32), 10 * i).save(tmp_path / name)
        lines.append(f"{name},{'ab'[i % 2]},p{i % 8}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def test_a_run_from_the_command_line_ends_with_its_summary(patches, tmp_path):
    outputs = tmp_path / "out"
    done = train(
        "domain/target=csv", f"domain.target.root={patches}", *SMALL[:4], "recipe.epochs=1",
        "trainer.accelerator=cpu", f"paths.outputs={outputs}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = (path for path in (outputs / "runs").iterdir() if path.name[0] != ".")
    assert f"tensorboard --logdir {outputs / 'runs'}" in done.stdout
    assert f"{read_json(run / 'metrics.json')['test']['accuracy']:.4f}" in done.stdout
    assert run.name.startswith("scratch-r1-s0-")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["domain/texture=folder", "domain.texture.root=/nowhere"], "/nowhere: no such folder"),
        (["domain/texture=curet"], "domain.texture.root is required"),
        (["domain/natural=pretrained", "domain.natural.weights={tmp}/w.pt"], "no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written(tmp_path, overrides, line):
    outputs = tmp_path / "out"
    done = train(
        "+experiment=two_stage" if "natural" not in overrides[0] else "+experiment=natural",
        *(text.format(tmp=tmp_path) for text in overrides),
        f"paths.outputs={outputs}",
    )
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not outputs.exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+experiment=two_stge", "Could not find 'experiment/two_stge'"),
        ("recipe.epoch=3", "recipe.epoch: there is no such key. Did you mean epochs?"),
        ("recipe.zzz=3", "Key 'zzz' not in 'Recipe'"),
        ("recipe.epochs=many", "Value 'many' of type 'str' could not be converted to Integer"),
        ("ratio=(1)", "\"ratio='(1)'\""),
        ("ratio", "missing EQUAL"),
    ],
)
@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["run", "sweep"])
def test_hydras_own_errors_are_one_line(tmp_path, sweep, override, message):
    done = train(*sweep, override, f"paths.outputs={tmp_path / 'out'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_killed_by_sigkill_goes_on_and_ends_with_the_same_figures(patches, tmp_path):
    command = [
        "domain/target=csv", f"domain.target.root={patches}", *SMALL[:1], "recipe.epochs=6",
        "recipe.min_steps=0", "trainer.checkpoint_pause_minutes=0",
        "recipe.batch_size=4", "recipe.optimizer.lr=0.001", "trainer.accelerator=cpu",
    ]  # fmt: skip
    whole = tmp_path / "whole"
    assert train(*command, f"paths.outputs={whole}").returncode == 0

    broken = tmp_path / "broken"
    process = subprocess.Popen(
        [sys.executable, "train.py", *command, f"paths.outputs={broken}"],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(broken.glob("runs/*/checkpoints/last.ckpt")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(broken.glob("runs/*/metrics.json"))

    again = train(*command, f"paths.outputs={broken}")
    assert again.returncode == 0, again.stderr
    assert "resumed" in again.stdout or "epoch 1/6" not in again.stdout
    first, second = (
        read_json(next(folder.glob("runs/*/metrics.json"))) for folder in (whole, broken)
    )
    assert first["test"] == second["test"]
    assert first["stages"][0]["best_epoch"] == second["stages"][0]["best_epoch"]
    csv = [next(folder.glob("runs/*/predictions.csv")).read_bytes() for folder in (whole, broken)]
    assert csv[0] == csv[1]
