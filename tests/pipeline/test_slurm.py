"""Sweeps through Slurm: the cluster of SLURM_CONF, or one node started on the loopback address."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from conftest import ONE_THREAD, REPOSITORY, SMALL, wait_for
from stagetransfer.files import read_json


def missing():
    """The reason why Slurm cannot be used here, or None."""
    if find_spec("submitit") is None:
        return "submitit is not installed: pip install -e '.[slurm]'"
    if "SLURM_CONF" in os.environ:
        return None
    path = os.environ["PATH"] + ":/usr/sbin"
    for program in ("slurmctld", "slurmd", "munged", "sbatch"):
        if shutil.which(program, path=path) is None:
            return f"no {program}: apt-get install slurmd slurmctld munge"
    return None if os.geteuid() == 0 else "Slurm's daemons must be started as root"


pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if "SLURM_CONF" in os.environ:
        yield dict(ONE_THREAD)
        return
    folder = tmp_path_factory.mktemp("slurm")
    script = str(REPOSITORY / "scripts" / "slurm_on_loopback.sh")
    subprocess.run([script, "start", str(folder)], check=True, timeout=120)
    try:
        yield ONE_THREAD | {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        subprocess.run([script, "stop", str(folder)], check=True, timeout=60)


def test_a_sweep_through_slurm(slurm, tmp_path):
    outputs, devices = tmp_path / "out", tmp_path / "devices"
    done = subprocess.run(
        [
            sys.executable, "train.py", "-m", "+experiment=texture", "ratio=0.5,1.0,0.001", *SMALL,
            f"paths.outputs={outputs}", "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1",
            "hydra.launcher.array_parallelism=2",
            f"hydra.launcher.setup=['echo $CUDA_VISIBLE_DEVICES $(date +%s) >> {devices}']",
        ],
        cwd=REPOSITORY, env=slurm, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    # Two jobs at a time, each with its own GPU; the third starts after one has ended.
    seen = [line.split() for line in devices.read_text().splitlines()]
    assert sorted(gpu for gpu, _ in seen[:2]) == ["0", "1"]
    assert len(seen) == 3
    assert int(seen[2][1]) - int(seen[1][1]) > 3
    # The failed job does not end the sweep, and the sweep reports it. Only the job itself finds out
    # that this ratio leaves a class without images.
    assert done.returncode == 1, done.stderr
    assert "1 of 3 jobs failed" in done.stderr
    assert "#2 ratio=0.001: ratio=0.001 leaves class " in done.stderr
    runs = [read_json(path) for path in outputs.glob("runs/*/metrics.json")]
    assert sorted(run["ratio"] for run in runs) == [0.5, 1.0]
    assert sorted(run["stages"][0]["reused"] for run in runs) == [False, True]
    assert len(list(outputs.glob("stages/*/DONE"))) == 1


def test_a_preempted_job_is_queued_again_and_continues_with_the_next_epoch(slurm, tmp_path):
    sweep = subprocess.Popen(
        [
            sys.executable, "train.py", "-m", "+experiment=scratch", "seed=0", *SMALL,
            "recipe.epochs=60", f"paths.outputs={tmp_path}", "hydra/launcher=slurm",
            "hydra.launcher.cpus_per_task=1",
        ],
        cwd=REPOSITORY, env=slurm, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/last.ckpt")))
    queued = ["squeue", "--noheader", "--array", "--format=%i", "--states=running"]
    (job,) = subprocess.check_output(queued, env=slurm, text=True).split()
    # What Slurm sends to a job that it preempts: SIGTERM, and the signal that submitit asked for.
    for signal in ("TERM", "USR2"):
        subprocess.run(["scancel", f"--signal={signal}", job], env=slurm, check=True)
    output, _ = sweep.communicate(timeout=500)
    assert sweep.returncode == 0, output
    assert len(list(tmp_path.glob("runs/*/metrics.json"))) == 1
    logs = [path.read_text() for path in tmp_path.glob("sweeps/*/.submitit/*/*.out")]
    assert sum(log.count("Starting with JobEnvironment") for log in logs) == 2
    validated = [int(epoch) for log in logs for epoch in re.findall(r" epoch (\d+)/60", log)]
    assert validated == list(range(1, 61))
