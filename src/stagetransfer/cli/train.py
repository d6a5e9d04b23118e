"""Behind `train.py`: a composed config in, a finished run out, and the exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from stagetransfer.cli.run_summary import print_summary
from stagetransfer.config.validate import validate_config
from stagetransfer.errors import UserError, cause
from stagetransfer.pipeline.chain import ChainRunner
from stagetransfer.pipeline.distributed import PARENT, end_with_parent, follower
from stagetransfer.pipeline.sweep import ONE_DEVICE, Job, refuse

log = logging.getLogger(__name__)


def enter(main: Callable[[], None]) -> None:
    """Calls Hydra's `main`; where Hydra itself ends the process, the code is 2 in place of 1.

    It does so, after a message of its own, on what it cannot compose and on a folder that it cannot
    make: bad input too. With HYDRA_FULL_ERROR=1 it raises instead, which ends with code 1.
    """
    try:
        main()
    except SystemExit as end:
        *_, (frame, _) = traceback.walk_tb(end.__traceback__)
        if end.code == 1 and frame.f_globals["__name__"].startswith("hydra."):
            sys.exit(2)
        raise


def run(cfg: DictConfig) -> None:
    """Runs what the config says and prints the summary.

    Bad input ends the process with code 2 after one line. In a sweep any error fails its own job
    alone: its cause is written down, and the sweep goes on and lists it at its end.
    """
    end_with_parent()
    if follower():
        _follow(cfg)
        return
    job = Job.current()
    try:
        _run(cfg, job)
    except Exception as error:
        known = isinstance(error, UserError)
        if job is not None:
            job.fail(cause(error))
        elif not known:
            raise
        if not known:
            traceback.print_exc()
        elif job is None or _own_process():
            refuse(str(error))
        if _own_process():
            sys.exit(1)
        print(f"error: {cause(error)}", file=sys.stderr)


def _run(cfg: DictConfig, job: Job | None) -> None:
    asked = list(HydraConfig.get().overrides.task)
    if job is not None:
        job.begin(asked)
    settings = validate_config(cfg)
    if settings.trainer.devices != 1:
        if job is not None:
            raise UserError(ONE_DEVICE.format(settings.trainer.devices))
        os.environ[PARENT] = str(os.getpid())  # the processes of DDP end with this one
    runner = ChainRunner(settings)
    if job is not None:
        job.begin(asked, runner.folder)
    if runner.finished and not runner.config.force:
        log.info("finished before; force=true runs it anew")
    print_summary(runner.run())


def _follow(cfg: DictConfig) -> None:
    """Trains along with the process that leads, which alone speaks."""
    logging.disable(logging.WARNING)
    try:
        ChainRunner(validate_config(cfg)).run()
    except UserError:
        return  # the leader meets it too; an exit code here would make Lightning kill the leader


def _own_process() -> bool:
    """Whether the process was started for this run alone."""
    return HydraConfig.get().mode == RunMode.RUN
