"""Behind `train.py`: a composed config in, a finished run out, and the exit code."""

from __future__ import annotations

import logging
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from stagetransfer import config
from stagetransfer.chain import ChainRunner
from stagetransfer.errors import UserError
from stagetransfer.summary import print_summary

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Runs what the config says and prints the summary.

    Bad input ends the process with code 2 after one line; in a sweep it fails its own job.
    """
    try:
        runner = ChainRunner(config.read(cfg))
        if runner.finished and not runner.config.force:
            log.info("finished before; force=true runs it anew")
        print_summary(runner.run())
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
