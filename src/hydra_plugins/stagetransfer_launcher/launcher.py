"""The launcher plugin `hydra/launcher=slots`, and which GPU each of its jobs gets.

Hydra imports this module each time it starts, so heavy imports wait until a sweep is launched.
Hydra does not register the module in `sys.modules`, and dataclasses cannot resolve annotations that
are strings in such a module: there is no `from __future__ import annotations` here.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

log = logging.getLogger(__name__)

DEVICE = "CUDA_VISIBLE_DEVICES"


@dataclass
class SlotsLauncherConf:
    """Settings of `hydra/launcher=slots`."""

    _target_: str = "hydra_plugins.stagetransfer_launcher.launcher.SlotsLauncher"
    slots: int | None = None  # jobs at a time; null: one per visible GPU, or 1 without a GPU


ConfigStore.instance().store(
    group="hydra/launcher", name="slots", node=SlotsLauncherConf, provider="stagetransfer"
)


class SlotsLauncher(Launcher):
    """Runs each job in a new process that sees one of the visible GPUs.

    The cause of a job's failure is written to the job's folder, and the other jobs go on.
    """

    def __init__(self, slots: int | None = None) -> None:
        self.slots = slots

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `launch` needs. Called by Hydra."""
        self.context, self.config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run all jobs; `stagetransfer.pipeline.sweep` lists those that failed. Called by Hydra."""
        from hydra_plugins.stagetransfer_launcher._process_pool import Command, ProcessPool
        from stagetransfer.pipeline.sweep import Job, labels, refuse, time_left

        hydra = self.config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        if self.slots is not None and self.slots < 1:
            refuse(f"hydra.launcher.slots={self.slots}: must be 1 or more")
        devices = visible_devices()
        count = self.slots or len(devices) or 1
        sweep = Path(hydra.sweep.dir).absolute()
        jobs = [
            Job(sweep / self._subdir(overrides, number), number)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        commands = [
            Command(self._command(job, overrides), job.folder / "log.txt")
            for job, overrides in zip(jobs, job_overrides, strict=True)
        ]
        log.info("%d jobs, %d at a time; their output: %s/*/log.txt", len(jobs), count, sweep)
        for job, overrides in zip(jobs, job_overrides, strict=True):
            job.begin(overrides)
        names, slots = labels(job_overrides), slot_environments(count, devices)
        start_times, ended = dict.fromkeys(range(len(jobs)), 0.0), list[int]()

        def on_start(i: int, slot: int) -> None:
            start_times[i] = time.monotonic()
            where = f" on GPU {slots[slot][DEVICE]}" if devices else ""
            log.info("#%d started%s: %s", jobs[i].number, where, names[i])

        def on_end(i: int, code: int) -> None:
            seconds = time.monotonic() - start_times[i]
            ended.append(i)
            if code == 0:
                left = time_left(jobs, len(jobs) - len(ended), count)
                shown = (jobs[i].number, seconds, result(jobs[i]), left)
                log.info("#%d finished in %.0f s%s%s", *shown)
                return
            if jobs[i].failure is None:
                jobs[i].fail(cause_of_exit(code, commands[i].output))
            log.info("#%d failed after %.0f s: %s", jobs[i].number, seconds, jobs[i].failure)

        try:
            ProcessPool(slots).run(commands, on_start, on_end)
        except KeyboardInterrupt:
            log.info("interrupted: all jobs were ended; the same command continues the sweep")
            sys.exit(130)
        return [JobReturn(list(o), status=JobStatus.COMPLETED) for o in job_overrides]

    def _subdir(self, overrides: Sequence[str], number: int) -> str:
        """Return `hydra.sweep.subdir` of a job, as Hydra's own launchers resolve it."""
        from stagetransfer.pipeline.sweep import unresolved_subdir

        if unresolved_subdir(self.config) == "${hydra.job.num}":
            return str(number)
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
        return str(config.hydra.sweep.subdir)

    def _command(self, job: Any, overrides: Sequence[str]) -> list[str]:
        """Return the command that runs one job alone, with the options of this process."""
        hydra = self.config.hydra
        options = ["--config-name", hydra.job.config_name]
        names = {"main": "--config-path", "command-line": "--config-dir"}
        for source in hydra.runtime.config_sources:
            if source.provider in names:
                package = "pkg://" if source.schema == "pkg" else ""
                options += [names[source.provider], package + source.path]
        given: Any = OmegaConf.to_container(hydra.overrides.hydra, resolve=False)
        own = [text for text in given if not text.startswith(("hydra.mode=", "hydra.sweep."))]
        folder = str(job.folder).replace("\\", "\\\\").replace("'", "\\'")
        return [
            *program(),
            *options,
            *overrides,
            *own,
            "hydra.mode=RUN",
            f"hydra.run.dir='{folder}'",
            f"hydra.job.num={job.number}",
        ]


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    named = os.environ.get(DEVICE)
    # device_count() ends at the first name in CUDA_VISIBLE_DEVICES that does not exist.
    count = torch.cuda.device_count()
    names = [str(i) for i in range(count)] if named is None else named.split(",")
    return [name.strip() for name in names[:count]]


def slot_environments(count: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """Return the environment variables that each of `count` slots adds to those of the launcher.

    They are the slot's GPU, the number of CPU threads (the cores divided by `count`, unless
    OMP_NUM_THREADS is set already) and the process with which the job has to end. A slot is a place
    for one running job; with more slots than GPUs, several share a GPU.
    """
    from stagetransfer.pipeline.distributed import PARENT

    shared = {PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    if "OMP_NUM_THREADS" not in os.environ:
        shared["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // count))
    if not devices:
        return [shared] * count
    return [shared | {DEVICE: devices[slot % len(devices)]} for slot in range(count)]


def program() -> list[str]:
    """Return how this process was started, without the arguments that Hydra reads.

    For example `[python, /path/train.py]` or `[python, /path/bin/stagetransfer, train]`.
    """
    arguments = sys.argv[1:]
    before = sys.orig_argv[: len(sys.orig_argv) - len(arguments)]
    if len(before) > 1 and sys.orig_argv[len(before) :] == arguments:
        return [sys.executable, *before[1:]]
    return [sys.executable, os.path.abspath(sys.argv[0])]


def cause_of_exit(code: int, output: Path) -> str:
    """Return one line on why a process ended that did not record the cause itself.

    `code` is -n if signal n killed it, and `output` the file with its stdout and stderr.
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines()]
    printed = [line for line in lines if line and "HYDRA_FULL_ERROR" not in line]
    return f"exit code {code}: {printed[-1] if printed else 'no output'}"


def result(job: Any) -> str:
    """Return the accuracy and run name of a finished job; "" without a run, as of sources alone."""
    from stagetransfer.files import read_json

    if job.run is None or not (job.run / "metrics.json").is_file():
        return ""
    accuracy = read_json(job.run / "metrics.json")["test"]["accuracy"]
    return f": accuracy {accuracy:.4f}  {job.run.name}"
