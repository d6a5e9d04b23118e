"""The launcher plugin. Hydra imports it at each start, so heavy imports wait until it launches.

Hydra imports it under no name, and dataclasses then can't resolve annotations that are strings.
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
from omegaconf import DictConfig

log = logging.getLogger(__name__)


@dataclass
class SlotsLauncherConf:
    """Knobs of `hydra/launcher=slots`."""

    _target_: str = "hydra_plugins.stagetransfer_launcher.launcher.SlotsLauncher"
    slots: int | None = None  # jobs at a time; null: one a visible GPU, or 1 where there is none


ConfigStore.instance().store(
    group="hydra/launcher", name="slots", node=SlotsLauncherConf, provider="stagetransfer"
)


class SlotsLauncher(Launcher):
    """Gives each job a fresh process and one of the visible devices.

    A job that fails or dies is written down with its cause, and the others go on.
    """

    def __init__(self, slots: int | None = None) -> None:
        self.slots = slots

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Called by Hydra; all jobs that failed are told on disk, none by an exception."""
        from hydra_plugins.stagetransfer_launcher._pool import Command, Pool
        from stagetransfer.pipeline.sweep import Job, labels, refuse

        hydra = self.config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        if self.slots is not None and self.slots < 1:
            refuse(f"hydra.launcher.slots={self.slots}: must be 1 or more")
        devices = visible_devices()
        count = self.slots or len(devices) or 1
        sweep = Path(hydra.sweep.dir).absolute()
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        jobs = [Job(sweep / str(number)) for number in numbers]
        commands = [
            Command(self._command(job, overrides), job.folder / "log.txt")
            for job, overrides in zip(jobs, job_overrides, strict=True)
        ]
        log.info("%d jobs, %d at a time; their output: %s/*/log.txt", len(jobs), count, sweep)
        for job, overrides in zip(jobs, job_overrides, strict=True):
            job.begin(overrides)
        names = labels(job_overrides)
        began = dict.fromkeys(range(len(jobs)), 0.0)

        def started(i: int, slot: int) -> None:
            began[i] = time.monotonic()
            where = f" on GPU {devices[slot % len(devices)]}" if devices else ""
            log.info("#%d started%s: %s", numbers[i], where, names[i])

        def ended(i: int, code: int) -> None:
            seconds = time.monotonic() - began[i]
            if code == 0:
                log.info("#%d finished in %.0f s%s", numbers[i], seconds, result(jobs[i]))
                return
            if jobs[i].failure is None:
                jobs[i].fail(why(code, commands[i].output))
            log.info("#%d failed after %.0f s: %s", numbers[i], seconds, jobs[i].failure)

        try:
            Pool(environments(count, devices)).run(commands, started, ended)
        except KeyboardInterrupt:
            log.info("interrupted: all jobs are ended; the same command again goes on")
            sys.exit(130)
        return [JobReturn(list(o), status=JobStatus.COMPLETED) for o in job_overrides]

    def _command(self, job: Any, overrides: Sequence[str]) -> list[str]:
        """The job as a run of its own, with the options that this process was started with."""
        hydra = self.config.hydra
        sources = {source.provider: source.path for source in hydra.runtime.config_sources}
        options = ["--config-name", hydra.job.config_name]
        for provider, option in (("main", "--config-path"), ("command-line", "--config-dir")):
            if provider in sources:
                options += [option, sources[provider].removeprefix("file://")]
        own = [text for text in hydra.overrides.hydra if not text.startswith("hydra.mode=")]
        folder = str(job.folder).replace("\\", "\\\\").replace("'", "\\'")
        return [
            sys.executable,
            os.path.abspath(sys.argv[0]),
            *options,
            *overrides,
            *own,
            "hydra.mode=RUN",
            f"hydra.run.dir='{folder}'",
            f"hydra.job.num={job.folder.name}",
        ]


def visible_devices() -> list[str]:
    """The GPUs that this process may use, under the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()  # the devices that are there, whatever is named
    names = [str(i) for i in range(count)] if named is None else named.split(",")
    return [name.strip() for name in names[:count]]


def environments(count: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """What each of `count` slots adds to the environment: a device, threads, its parent."""
    from stagetransfer.pipeline.distributed import PARENT

    shared = {PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    if "OMP_NUM_THREADS" not in os.environ:
        shared["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // count))
    if not devices:
        return [shared] * count
    return [
        {**shared, "CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} for slot in range(count)
    ]


def why(code: int, output: Path) -> str:
    """One line on how a process ended that left no cause of its own."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines()]
    said = [line for line in lines if line and "HYDRA_FULL_ERROR" not in line]
    return f"exit code {code}: {said[-1] if said else 'no output'}"


def result(job: Any) -> str:
    """The figure to show of a finished job."""
    from stagetransfer.files import read_json

    if job.run is None:
        return ""
    accuracy = read_json(job.run / "metrics.json")["test"]["accuracy"]
    return f": accuracy {accuracy:.4f}  {job.run.name}"
