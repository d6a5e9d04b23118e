"""`stagetransfer train`, and what train.py calls: from a composed config to a finished run.

Everything heavy (torch, Lightning) is imported after the settings have been checked.
"""

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagetransfer.cli.interruption import interruptible
from stagetransfer.config.compose import check_sweep, refusal
from stagetransfer.config.validate import check_folders, validate_config
from stagetransfer.errors import UserError, cause, disk_fault, exit_if_known
from stagetransfer.pipeline.distributed import PARENT, end_with_parent, is_follower
from stagetransfer.pipeline.sweep import ONE_DEVICE, Job, refuse

log = logging.getLogger(__name__)

FULL_ERROR = "HYDRA_FULL_ERROR"
_WAIT_FOR_LEADER = 30  # seconds in which a leading process that meets the same error ends
KEPT = "Finished stages and runs are kept; the same command continues after the last saved epoch."


@hydra.main(version_base="1.3", config_path="pkg://stagetransfer.conf", config_name="config")
def _train(cfg: DictConfig) -> float | None:
    return run(cfg)


def train(overrides: Sequence[str]) -> None:
    """Run Hydra on the words of a command line, such as "-m" or "ratio=0.2,1.0"."""
    sys.argv = ["stagetransfer train", *overrides]
    # Under DDP, Lightning starts this module again, by the name in this place.
    sys.modules["__main__"].__spec__ = find_spec("stagetransfer.cli.train")
    enter(_train)


def enter(main: Callable[[], object]) -> None:
    """Call Hydra's `main`. An override that Hydra refuses ends with one line and exit code 2.

    With HYDRA_FULL_ERROR=1 the traceback is shown.
    """
    wants_traceback = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"  # otherwise Hydra prints several lines and exits with code 1
    logging.raiseExceptions = False  # a log on a full disk gets no traceback for each lost line
    try:
        with interruptible(KEPT, silent=is_follower()):
            refuse_odd_numbers(sys.argv[1:])
            if not is_follower() and {"-m", "--multirun"} & {*sys.argv}:
                check_sweep(sys.argv[1:])
            main()
    except UserError as error:
        refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        refuse(refusal(error, sys.argv[1:]))
    except Exception as error:
        if not wants_traceback:
            if "Config group override" in str(error):  # a ValueError of Hydra's
                refuse(f"{error}. Name a file of the group, or leave the override out.")
            if "Expecting one subcommand" in str(error):  # another one
                refuse(f"--shell-completion: {error}. Name one of these, as in -sc install=bash")
            exit_if_known(error)
        raise


def refuse_odd_numbers(words: Sequence[str]) -> None:
    """Raise UserError for an integer of more digits than Python reads, on which Hydra crashes.

    And for one with _ among its digits, such as a folder 2024_01_15, which Hydra reads as 20240115.
    """
    for word in words:
        if re.fullmatch(r"[^=]*=(.*,)?[+-]?\d+(_\d+)+(,.*)?", word):
            key, _, value = word.partition("=")
            raise UserError(
                f"{word}: would be a number without the _. Write a text in two quotes, "
                f"\"{key}='{value}'\", and a number without _."
            )
        if re.search(r"\d{4000}", word):
            key = word.partition("=")[0]
            raise UserError(f"{key[:80]}: a number of 4,000 digits. Give a smaller number.")


def run(cfg: DictConfig) -> float | None:
    """Run what the config says, print the summary, and return the monitored validation figure.

    Hydra's sweepers that search (such as Optuna's) optimise this figure. Bad input ends the process
    with code 2 after one line; a full disk with code 1 after one line, and a crash too, if its
    traceback is in the run's folder. In a sweep an error fails only its own job: its cause is
    recorded, and the sweep continues and lists it at its end.
    """
    end_with_parent()
    if is_follower():
        _follow(cfg)
        return None
    job = Job.current()
    try:
        return _run(cfg, job)
    except Exception as error:
        is_alone = HydraConfig.get().mode == RunMode.RUN  # the process was started for this run
        if job is not None:
            try:
                job.fail(cause(error))
            except OSError:  # on such a disk, no job of the sweep can be recorded
                raise error from None
        if is_alone:
            exit_if_known(error)
        if notes := getattr(error, "__notes__", []):
            print(f"error: {cause(error)}. {notes[-1]}", file=sys.stderr)
        elif isinstance(error, UserError) or disk_fault(error):
            print(f"error: {cause(error)}", file=sys.stderr)
        else:
            traceback.print_exc()
        if is_alone:
            sys.exit(1)
        return None


def _run(cfg: DictConfig, job: Job | None) -> float | None:
    task = HydraConfig.get().overrides.task
    overrides = [str(word) for word in OmegaConf.to_container(task, resolve=False) or ()]
    if job is not None:
        job.begin(overrides)
    settings = validate_config(cfg)
    if settings.trainer.devices != 1:
        if job is not None:
            raise UserError(ONE_DEVICE.format(settings.trainer.devices))
        os.environ[PARENT] = str(os.getpid())  # the processes of DDP end with this one

    check_folders(settings)

    from stagetransfer.cli.run_summary import print_stages, print_summary
    from stagetransfer.pipeline.chain import ChainRunner
    from stagetransfer.runs.writer import monitored_figure

    runner = ChainRunner(settings, overrides)
    if job is not None:
        job.begin(overrides, runner.folder)
    if runner.finished and not settings.force:
        again = "force=true runs it again" if runner.has_target else f"see {runner.folder}"
        log.info("already finished; %s", again)
    folder = runner.run()
    if runner.has_target:
        print_summary(folder, alone=job is None)
    else:
        print_stages(folder)
    return monitored_figure(folder, settings.stages[-1].recipe.monitor)


def _follow(cfg: DictConfig) -> None:
    """Train along with the leading process, which alone prints."""
    logging.disable(logging.WARNING)
    from stagetransfer.pipeline.chain import ChainRunner

    try:
        ChainRunner(validate_config(cfg)).run()
    except UserError as error:
        # Usually the leader meets it too, prints it and ends this process. An image of this
        # process's own share is the exception: the leader would wait for this process.
        import torch.distributed

        if torch.distributed.is_initialized():
            time.sleep(_WAIT_FOR_LEADER)
            print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(2)  # Lightning then ends the leader


if __name__ == "__main__":
    enter(_train)
