"""A sweep's jobs on disk: what each was asked, which run it made, why it failed.

`<sweep>/<number>/` holds job.json and, of a job that failed, failure.txt with its one-line cause,
whichever launcher started the job and wherever it ran.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from stagetransfer.errors import cause
from stagetransfer.files import read_json, write_json, write_text

ONE_DEVICE = (
    "trainer.devices={} in a sweep: each process of DDP would start the whole sweep again; "
    "give each job one device (trainer.devices=1, hydra/launcher=slots), or run without -m"
)
EXTRAS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}


@dataclass(frozen=True)
class Job:
    """One job of a sweep, known by its folder."""

    folder: Path

    @staticmethod
    def current() -> Job | None:
        """The job that this process is just doing; None outside of a sweep."""
        hydra = HydraConfig.get()
        if OmegaConf.is_missing(hydra.job, "num"):
            return None
        return Job(Path(hydra.runtime.output_dir))

    @property
    def run(self) -> Path | None:
        """The folder of the job's run, once it is known."""
        name = self._record().get("run")
        return Path(name) if name else None

    @property
    def overrides(self) -> list[str]:
        """What the job was asked."""
        return list(self._record().get("overrides", ()))

    @property
    def failure(self) -> str | None:
        """Why the job failed, in a line; None if it has not."""
        path = self.folder / "failure.txt"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    def begin(self, overrides: Sequence[str], run: Path | None = None) -> None:
        """Writes down what the job was asked and, when it is known, which run it makes."""
        record = {"overrides": list(overrides), "run": str(run.absolute()) if run else None}
        write_json(self.folder / "job.json", record)

    def fail(self, why: str) -> None:
        """Writes down why the job failed, in its folder and in that of its unfinished run."""
        write_text(self.folder / "failure.txt", why + "\n")
        run = self.run
        if run is not None and run.is_dir() and not (run / "metrics.json").exists():
            write_text(run / "failure.txt", why + "\n")

    def _record(self) -> dict[str, Any]:
        path = self.folder / "job.json"
        return read_json(path) if path.is_file() else {}


def jobs(sweep: Path) -> list[Job]:
    """The jobs of a sweep that have begun, by number."""
    folders = [path.parent for path in sweep.glob("*/job.json")]
    return [Job(path) for path in sorted(folders, key=lambda path: int(path.name))]


def labels(asked: Sequence[Sequence[str]]) -> list[str]:
    """What tells each job of a sweep from the others: its overrides that not all of them have."""
    shared = set.intersection(*map(set, asked)) if len(asked) > 1 else set()
    return [" ".join(word for word in words if word not in shared) for words in asked]


class SweepCallback(Callback):
    """Hydra calls it where a sweep begins and where it has ended, whatever the launcher."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuses, before any job, what no job of a sweep can do."""
        devices = OmegaConf.select(config, "trainer.devices")
        if devices is not None and devices != 1:
            refuse(ONE_DEVICE.format(devices))
        plugin = str(config.hydra.launcher._target_).split(".")[1]
        if plugin in EXTRAS and find_spec(f"hydra_plugins.{plugin}") is None:
            name = config.hydra.runtime.choices["hydra/launcher"]
            refuse(f"hydra/launcher={name} is an extra: pip install -e '.[{EXTRAS[plugin]}]'")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Lists the failed jobs; with any, the sweep's exit code is 1. Writes the board."""
        begun = jobs(Path(config.hydra.sweep.dir))
        failed = [job for job in begun if job.failure]
        sys.stdout.flush()
        if failed:
            print(
                f"\n{len(failed)} of {len(begun)} jobs failed; the same command again does only "
                "these:",
                file=sys.stderr,
            )
        else:
            print(f"\n{len(begun)} jobs, all finished")
        for job, label in zip(begun, labels([job.overrides for job in begun]), strict=True):
            if job.failure:
                print(f"  #{job.folder.name} {label}: {job.failure}", file=sys.stderr)
        outputs = OmegaConf.select(config, "paths.outputs")
        if outputs is not None:
            _board(Path(outputs))
        if failed:
            sys.exit(1)


def _board(outputs: Path) -> None:
    """TensorBoard's comparison of all runs there; where it can't be made, only a line says so."""
    if not any(outputs.glob("runs/*/metrics.json")):
        return
    from stagetransfer.reporting.tensorboard_board import write_board

    try:
        print(f"board  tensorboard --logdir {write_board(outputs)}")
    except Exception as error:
        print(f"no board was written: {cause(error)}", file=sys.stderr)


def refuse(line: str) -> NoReturn:
    """Ends the process as bad input does: one line, exit code 2."""
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
