"""The jobs of a sweep, recorded on disk: their overrides, their runs, and why they failed.

The folder of a job (`hydra.sweep.subdir`, by default its number) holds job.json and, if the job
failed, failure.txt with the cause in one line, whichever launcher started it and wherever it ran.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from stagetransfer.errors import UserError, cause, exit_if_known
from stagetransfer.files import check_can_be_folder, read_json, write_json, write_text
from stagetransfer.terminal import clock

if TYPE_CHECKING:
    from stagetransfer.runs import Run

EXTRAS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}
ONE_DEVICE = (
    "trainer.devices={}: under -m, each process of DDP would start the whole sweep again. "
    "Give each job one device (trainer.devices=1, hydra/launcher=slots), or run without -m"
)


def _blocks(*, _root_: DictConfig) -> str:
    """Return the blocks of the network with commas, the head first: `${blocks:}` in a sweep."""
    from stagetransfer.config.schema import Model
    from stagetransfer.config.typed import typed
    from stagetransfer.models import build_backbone

    settings: Any = OmegaConf.to_container(_root_.model, resolve=True)
    return ",".join(reversed(build_backbone(typed(Model, ("model", settings)), 2).blocks))


OmegaConf.register_new_resolver("blocks", _blocks, replace=True)


@dataclass(frozen=True)
class Job:
    """One job of a sweep: its folder, and its number."""

    folder: Path
    number: int

    @staticmethod
    def current() -> Job | None:
        """Return the job that this process is running; None outside of a sweep."""
        hydra = HydraConfig.get()
        if OmegaConf.is_missing(hydra.job, "num"):
            return None
        return Job(Path(hydra.runtime.output_dir), int(hydra.job.num))

    @property
    def run(self) -> Path | None:
        """Return the folder of the job's run, once it is known."""
        name = self._record().get("run")
        return Path(name) if name else None

    @property
    def seconds(self) -> float | None:
        """Return how long the job trained; None if it did not, or is not finished."""
        run = self.run
        if run is None or not (run / "metrics.json").is_file():
            return None
        begun, done = (path.stat().st_mtime for path in (self._file, run / "metrics.json"))
        return done - begun if done > begun else None

    @property
    def overrides(self) -> list[str]:
        """Return the job's overrides."""
        return list(self._record().get("overrides", ()))

    @property
    def failure(self) -> str | None:
        """Return why the job failed, in one line; None if it has not failed."""
        path = self.folder / "failure.txt"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    def begin(self, overrides: Sequence[str], run: Path | None = None) -> None:
        """Record the job's overrides and, once it is known, the folder of its run.

        A failure of an earlier try is forgotten.
        """
        (self.folder / "failure.txt").unlink(missing_ok=True)
        record = {"number": self.number, "overrides": list(overrides)}
        record["run"] = str(run.absolute()) if run else None
        write_json(self._file, record)

    def fail(self, reason: str) -> None:
        """Record why the job failed, in its folder and in that of its unfinished run."""
        write_text(self.folder / "failure.txt", reason + "\n")
        run = self.run
        if run is not None and run.is_dir() and not (run / "metrics.json").exists():
            write_text(run / "failure.txt", reason + "\n")

    def _record(self) -> dict[str, Any]:
        return read_json(self._file) if self._file.is_file() else {}

    @property
    def _file(self) -> Path:
        return self.folder / "job.json"


def jobs(sweep: Path) -> list[Job]:
    """Return the jobs of a sweep that have started, by number."""
    found = [Job(path.parent, int(record["number"])) for path, record in _records(sweep)]
    return sorted(found, key=lambda job: job.number)


def forget_jobs(sweep: Path) -> None:
    """Remove the records of an earlier sweep in this folder, which are not those of the next."""
    for path, _ in _records(sweep):
        path.with_name("failure.txt").unlink(missing_ok=True)
        path.unlink()


def _records(sweep: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return each job.json and its content; none of another program or of a sweep further below."""
    inner = [path.parent for path in sweep.rglob("multirun.yaml") if path.parent != sweep]
    found = []
    for path in sweep.rglob("job.json"):
        with suppress(UserError):
            found.append((path, read_json(path)))
    return [
        (path, record)
        for path, record in found
        if record.keys() == {"number", "overrides", "run"}
        and not any(path.is_relative_to(folder) for folder in inner)
    ]


def unresolved_subdir(config: DictConfig) -> str:
    """Return `hydra.sweep.subdir` as it was written, such as ${hydra.job.num}."""
    return str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"])  # type: ignore[call-overload, index]


def time_left(begun: Sequence[Job], left: int, at_a_time: int = 1) -> str:
    """Return "; about 0:12:00 left for the sweep" for `left` more jobs; "" if no job has trained.

    The other jobs are supposed to train as long as those so far, on average.
    """
    seconds = [job.seconds for job in begun if job.seconds]
    if not seconds or not left:
        return ""
    return f"; about {clock(sum(seconds) / len(seconds) * left / at_a_time)} left for the sweep"


def labels(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return a label for each job of a sweep: its overrides that not all jobs share."""
    shared = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(one for one in own if one not in shared) for own in overrides]


class SweepCallback(Callback):
    """Hydra calls it at the start and at the end of a sweep, whatever the launcher."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse, before any job starts, what no job of a sweep can do."""
        devices = OmegaConf.select(config, "trainer.devices")
        if devices is not None and devices != 1:
            refuse(ONE_DEVICE.format(devices))
        plugin = str(config.hydra.launcher._target_).split(".")[1]
        if plugin in EXTRAS and find_spec(f"hydra_plugins.{plugin}") is None:
            name = config.hydra.runtime.choices["hydra/launcher"]
            refuse(
                f"hydra/launcher={name}: its package is not installed. Install it with "
                f"pip install 'stagetransfer[{EXTRAS[plugin]}]'"
            )
        subdir = unresolved_subdir(config)
        if "${" not in subdir:
            refuse(
                f"hydra.sweep.subdir={subdir}: each job needs a folder of its own. Put its number "
                f"into the name, 'hydra.sweep.subdir={subdir}_${{hydra.job.num}}'"
            )
        try:  # Hydra writes this file next; its error would not name it
            check_can_be_folder(config.hydra.sweep.dir, "hydra.sweep.dir")
            forget_jobs(Path(config.hydra.sweep.dir))
            write_text(Path(config.hydra.sweep.dir) / "multirun.yaml", OmegaConf.to_yaml(config))
        except (UserError, OSError) as error:
            exit_if_known(error)
            raise

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print which job of how many starts, if all run in this process, and what differs."""
        hydra = config.hydra
        if "BasicLauncher" not in hydra.launcher._target_ or OmegaConf.is_missing(hydra.job, "num"):
            return
        sweep = Path(hydra.sweep.dir)
        first = OmegaConf.load(sweep / "multirun.yaml")
        words = [f"{key}={value}" for key, value in (first.hydra.sweeper.params or {}).items()]
        words += first.hydra.overrides.task  # these count, where both name a key
        parsed = OverridesParser.create().parse_overrides(words)
        of_key = {one.get_key_element(): one for one in parsed}
        swept = [one for one in of_key.values() if one.is_sweep_override()]
        number, of, left, begun = hydra.job.num, "", "", jobs(sweep)
        if "BasicSweeper" in hydra.sweeper._target_:
            count = prod(len([*one.sweep_string_iterator()]) for one in swept)
            of, left = f" of {count}", time_left(begun, count - number)
        keys = tuple(f"{one.get_key_element()}=" for one in swept)
        label = " ".join(word for word in hydra.overrides.task if word.startswith(keys))
        failed = sum(job.failure is not None for job in begun)
        print(f"\njob {number + 1}{of}, failed {failed}: {label}{left}", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """List the failed jobs and write the board. With a failed job, the exit code is 1."""
        begun = jobs(Path(config.hydra.sweep.dir))
        failed = [job for job in begun if job.failure]
        sys.stdout.flush()
        if failed:
            print(
                f"\n{len(failed)} of {len(begun)} jobs failed. The same command again runs only "
                "these:",
                file=sys.stderr,
            )
        else:
            print(f"\n{len(begun)} jobs, all finished")
        for job, label in zip(begun, labels([job.overrides for job in begun]), strict=True):
            if job.failure:
                print(f"  #{job.number} {label}: {job.failure}", file=sys.stderr)
        outputs = OmegaConf.select(config, "paths.outputs")
        if outputs is not None:
            _show_results(begun)
            _board(Path(outputs))
        if failed:
            sys.exit(1)


def _show_results(begun: Sequence[Job]) -> None:
    """Print the mean test figures of the finished runs, by condition and ratio.

    Without the column "learned", the mean of runs that learned nothing would look like a result.
    """
    import pandas as pd

    from stagetransfer.runs.reader import is_finished, read_runs

    folders = dict.fromkeys(job.run for job in begun if job.run is not None)  # a run counts once
    try:
        runs, _ = read_runs([folder for folder in folders if is_finished(folder)])
    except UserError as error:  # the exit code is that of the jobs
        print(f"no table of results: {error}", file=sys.stderr)
        return
    names = ("accuracy", "recall", "cross_entropy")
    rows = [
        {"condition": run.condition, "r": f"{run.ratio:g}{_worse(run)}", "runs": 1}
        | {"learned": int(run.learned)}
        | {n: run.metrics[n] for n in names}
        for run in runs
    ]
    if rows:
        means = dict.fromkeys(names, "mean")
        by_place = pd.DataFrame(rows).groupby(["condition", "r"], sort=False)
        table = by_place.agg({"runs": "sum", "learned": "sum", **means}).reset_index()
        print(table.to_string(index=False, float_format="{:.3f}".format))


def _worse(run: Run) -> str:
    """Return how the training set was made worse, which distinguishes runs of one ratio."""
    names = "label_noise", "long_tail"
    found = {name: run.config.get(f"domain.{run.chain[-1]}.{name}") for name in names}
    return "".join(f" {name}={value:g}" for name, value in found.items() if value)


def _board(outputs: Path) -> None:
    """Write TensorBoard's comparison of all runs; if that is impossible, print why."""
    if not any(outputs.glob("runs/*/metrics.json")):
        return
    from stagetransfer.reporting.tensorboard_board import commands, write_board

    try:
        for folder in write_board(outputs):
            print(commands(folder))
    except Exception as error:
        print(f"no board was written: {cause(error)}", file=sys.stderr)
    print(f"compare  stagetransfer report {shlex.quote(str(outputs))}")


def refuse(line: str) -> NoReturn:
    """End the process as for bad input: one line, exit code 2."""
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
