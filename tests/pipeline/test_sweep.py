"""Sweeps: shared source stages, kill and resume, failed jobs, the sweeps in conf/sweep."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from conftest import ONE_THREAD, REPOSITORY, SMALL
from made_runs import make_run
from stagetransfer.config.validate import validate_config
from stagetransfer.files import read_json
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.stage_store import StageStore
from stagetransfer.pipeline.sweep import SweepCallback, _show_results

SWEEP = [
    "-m", "+experiment=scratch,natural,texture,two_stage", "ratio=0.5,1.0",
    *SMALL, "recipe.epochs=3", "stage.natural.recipe.epochs=3", "stage.texture.recipe.epochs=3",
]  # fmt: skip
NUM_SOURCES = 3  # natural, texture, and texture after natural
SLOTS = ["hydra/launcher=slots", "hydra.launcher.slots=2"]


def train(*overrides):
    return subprocess.run(
        [sys.executable, "train.py", *overrides],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=1800, env=ONE_THREAD,
    )  # fmt: skip


def results(outputs):
    """The metrics of all runs, by name."""
    return {
        path.parent.name: read_json(path) for path in sorted(outputs.glob("runs/*/metrics.json"))
    }


def figures(outputs):
    """The results that must not differ between an uninterrupted sweep and a killed one."""
    kept = ("test", "per_class", "confusion", "num_train", "num_test")
    stage = ("name", "key", "best_epoch", "validation")
    return {
        name: (
            {key: run[key] for key in kept},
            [{key: entry[key] for key in stage} for entry in run["stages"]],
            (outputs / "runs" / name / "predictions.csv").read_bytes(),
        )
        for name, run in results(outputs).items()
    }


def trained(outputs):
    """The keys of the source stages, once for each run that recorded training the stage."""
    entries = [entry for run in results(outputs).values() for entry in run["stages"][:-1]]
    return [entry["key"] for entry in entries if not entry["reused"]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The outputs of a sweep in one process, one run after another."""
    outputs = tmp_path_factory.mktemp("uninterrupted")
    done = train(*SWEEP, f"paths.outputs={outputs}")
    assert done.returncode == 0, done.stderr
    assert "8 jobs, all finished" in done.stdout
    return outputs


@pytest.mark.slow
def test_parallel_jobs_wait_for_each_other_and_train_each_source_stage_once(
    uninterrupted, tmp_path
):
    done = train(*SWEEP, *SLOTS, f"paths.outputs={tmp_path}")
    assert done.returncode == 0, done.stderr
    keys = trained(tmp_path)
    assert len(keys) == len(set(keys)) == len(list(tmp_path.glob("stages/*/DONE"))) == NUM_SOURCES
    assert sorted(keys) == sorted(trained(uninterrupted))
    logs = "".join(path.read_text() for path in tmp_path.glob("sweeps/*/*/log.txt"))
    assert re.search(r"stage \w{16} is being made by process \d+ on \S+; waiting for it", logs)
    assert figures(tmp_path) == figures(uninterrupted)


@pytest.mark.slow
def test_a_sweep_killed_repeatedly_ends_with_the_same_results(uninterrupted, tmp_path):
    """Each time a random process, the launcher or a job, is killed at a random moment."""
    draw = random.Random(0)
    command = [sys.executable, "train.py", *SWEEP, *SLOTS, f"paths.outputs={tmp_path}"]
    for _ in range(2):
        before = set(tmp_path.glob("sweeps/*/*/log.txt"))
        launcher = subprocess.Popen(
            command, cwd=REPOSITORY, env=ONE_THREAD, stdout=subprocess.DEVNULL
        )

        def trains(before=before):
            logs = set(tmp_path.glob("sweeps/*/*/log.txt")) - before
            return any(" epoch " in log.read_text() for log in logs)

        while launcher.poll() is None and not trains():
            time.sleep(0.1)
        time.sleep(draw.uniform(0, 6))
        assert launcher.poll() is None, "the sweep finished before it could be killed"
        victims = [launcher.pid, *children(launcher.pid)]
        os.kill(draw.choice(victims), signal.SIGKILL)
        time.sleep(draw.uniform(0, 3))
        launcher.kill()
        launcher.wait()
    done = train(*SWEEP, *SLOTS, f"paths.outputs={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path) == figures(uninterrupted)
    keys = trained(tmp_path)
    assert len(keys) == len(set(keys)) <= NUM_SOURCES
    assert not list(tmp_path.glob("runs/*/failure.txt"))


def children(pid):
    """The child processes of a process, started in any of its threads."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


@pytest.mark.slow
def test_a_finished_sweep_runs_nothing_again(uninterrupted):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.glob("runs/*/metrics.json")}
    done = train(*SWEEP, f"paths.outputs={uninterrupted}")
    assert done.returncode == 0, done.stderr
    assert "8 jobs, all finished" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("launcher", ["basic", "slots"])
@pytest.mark.parametrize("subdir", ["", "job_"])
def test_failed_jobs_do_not_end_the_sweep_and_are_listed(tmp_path, launcher, subdir):
    roots = [str(tmp_path / name) for name in ("none", "nowhere")]  # only the job looks for them
    overrides = ["domain/target=folder", f"domain.target.root={','.join(roots)}", "seed=7"]
    overrides.append(f"hydra/launcher={launcher}")
    overrides.append(f"hydra.sweep.subdir={subdir}${{hydra.job.num}}")
    done = train("-m", *overrides, f"paths.outputs={tmp_path}")
    assert done.returncode == 1
    assert "2 of 2 jobs failed" in done.stderr
    for i, root in enumerate(roots):
        (failure,) = tmp_path.glob(f"sweeps/*/{subdir}{i}/failure.txt")
        (line,) = failure.read_text().splitlines()
        assert root in line
        assert f"#{i} domain.target.root={root}: {line}" in done.stderr
    started = [line for line in done.stdout.splitlines() if line.startswith("job ")]
    if launcher == "basic":
        assert started == [
            f"job {i + 1} of 2, failed {i}: domain.target.root={root}"
            for i, root in enumerate(roots)
        ]
    assert "Traceback" not in done.stderr


def test_words_replace_the_values_of_a_sweeps_file_in_the_number_of_jobs(tmp_path, capsys):
    hydra = {
        "sweep": {"dir": str(tmp_path)},
        "job": {"num": 0},
        "launcher": {"_target_": "BasicLauncher"},
        "sweeper": {"_target_": "BasicSweeper", "params": {"ratio": "0.2,1.0", "seed": "0,1,2"}},
        "overrides": {"task": ["ratio=0.1,0.2", "seed=7"]},
    }
    OmegaConf.save({"hydra": hydra}, tmp_path / "multirun.yaml")
    hydra["overrides"] = {"task": ["ratio=0.1", "seed=7"]}
    SweepCallback().on_job_start(OmegaConf.create({"hydra": hydra}))
    assert capsys.readouterr().out.strip() == "job 1 of 2, failed 0: ratio=0.1"


def test_a_run_of_two_jobs_counts_once_in_the_summary(tmp_path, capsys):
    folder = make_run(tmp_path)
    _show_results([SimpleNamespace(run=folder)] * 2)
    header, row = capsys.readouterr().out.splitlines()
    assert dict(zip(header.split(), row.split(), strict=True))["runs"] == "1"


def test_the_summary_says_how_many_runs_learned(tmp_path, capsys):
    folders = [make_run(tmp_path, seed=seed, dead=seed > 0) for seed in range(3)]
    _show_results([SimpleNamespace(run=folder) for folder in folders])
    header, row = capsys.readouterr().out.splitlines()
    found = dict(zip(header.split(), row.split(), strict=True))
    assert (found["runs"], found["learned"]) == ("3", "1")


def test_a_damaged_run_does_not_end_the_summary_in_an_error(tmp_path, capsys):
    folder = make_run(tmp_path)
    (folder / "predictions.csv").write_text("id\n")
    _show_results([SimpleNamespace(run=folder)])
    assert str(folder / "predictions.csv") in capsys.readouterr().err


def test_an_option_that_does_not_exist_is_an_error_before_any_job(tmp_path):
    done = train("-m", "model=paper,papre", f"paths.outputs={tmp_path}")
    assert done.returncode == 2
    assert "Could not find 'model/papre'" in done.stderr
    assert not list(tmp_path.glob("sweeps/*/*/job.json"))


def test_ddp_in_a_sweep_is_an_error_of_one_line(tmp_path):
    outputs = tmp_path / "out"
    done = train("-m", "trainer=ddp", "seed=0,1", f"paths.outputs={outputs}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: trainer.devices=2")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not outputs.exists()


def test_a_failed_run_has_a_failure_file_until_it_succeeds(compose_config, tmp_path, monkeypatch):
    def start():
        settings = validate_config(
            compose_config(*SMALL, "recipe.epochs=1", "ratio=0.5", f"paths.outputs={tmp_path}")
        )
        return ChainRunner(settings)

    def raise_error(*_, **__):
        raise RuntimeError("a cause\nin two lines")

    with monkeypatch.context() as broken:
        broken.setattr("stagetransfer.pipeline.stage.fit", raise_error)
        with pytest.raises(RuntimeError):
            start().run()
    failure = start().folder / "failure.txt"
    assert failure.read_text().startswith("RuntimeError: a cause (test_sweep.py:")
    assert "in two lines" in failure.with_suffix(".log").read_text()
    assert (start().run() / "metrics.json").is_file()
    assert not failure.exists()


def test_a_stage_is_not_trained_again_if_only_its_rename_is_missing(tmp_path):
    (tmp_path / "key.partial").mkdir()
    (tmp_path / "key.partial" / "model.ckpt").touch()
    (tmp_path / "key.partial" / "DONE").touch()
    store = StageStore(tmp_path)
    with store.make("key") as folder:
        assert folder is None
    assert store.finished("key")
    assert (store.path("key") / "model.ckpt").exists()


@pytest.mark.parametrize(("name", "runs"), [("paper", 60), ("quick", 40)])
def test_the_number_of_runs_of_each_sweep_in_conf(compose_config, name, runs):
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=[f"+sweep={name}"], return_hydra_config=True)
    params = cfg.hydra.sweeper.params
    jobs = list(product(*([f"{k}={v}" for v in values.split(",")] for k, values in params.items())))
    assert len(jobs) == runs
    ends = (jobs[0], jobs[-1])
    first, last = (validate_config(compose_config(f"+sweep={name}", *job)) for job in ends)
    assert (first.condition, last.condition, last.ratio) == ("scratch", "two_stage", 1)
    assert first.source_seed == first.seed == 0
    assert last.source_seed == last.seed > 0


@pytest.mark.parametrize(("name", "extra"), [("slurm", "slurm"), ("ray_cluster", "ray")])
def test_a_launcher_that_is_not_installed_names_its_extra(name, extra, monkeypatch, capsys):
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=[f"hydra/launcher={name}"], return_hydra_config=True)
    monkeypatch.setattr("stagetransfer.pipeline.sweep.find_spec", lambda _: None)
    with pytest.raises(SystemExit) as refused:
        SweepCallback().on_multirun_start(cfg)
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: hydra/launcher={name}")
    assert line.endswith(f"[{extra}]'")
