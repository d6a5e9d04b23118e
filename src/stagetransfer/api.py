"""StageTransfer from Python or a notebook; see `stagetransfer` for the five lines that it takes."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from stagetransfer.config.compose import compose_settings
from stagetransfer.errors import UserError
from stagetransfer.reporting import make_report
from stagetransfer.runs import Run
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.study import run_order

PathLike = str | os.PathLike[str]


class Runs(tuple[Run, ...]):
    """Finished runs, in order of condition, ratio and seed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} finished runs>"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per run: its place, image counts, whether it learned, test metrics."""
        return pd.DataFrame(
            {
                "run": run.name,
                "condition": run.condition,
                "ratio": run.ratio,
                "seed": run.seed,
                "source_seed": run.source_seed,
                "num_train": run.num_train,
                "num_test": len(run.ids),
                "learned": run.learned,
                **run.metrics,
            }
            for run in self
        )


def train(
    experiment: str | None = None,
    overrides: Sequence[str] = (),
    *,
    outputs: PathLike = "outputs",
    verbose: bool = True,
) -> Run:
    """Train one chain, or find its finished run, and return it.

    Args:
        experiment: a file of conf/experiment, such as "two_stage"; None: the defaults alone.
        overrides: what follows `stagetransfer train` on the command line, such as "ratio=0.2".
        outputs: folder of the runs and of the source stages that they share.
        verbose: show one line per epoch.

    Raises:
        UserError: the settings or the data cannot lead to a run.
    """
    from stagetransfer.pipeline.chain import ChainRunner

    words = [f"+experiment={experiment}"] if experiment else []
    words += [f"paths.outputs={os.fspath(outputs)}", *overrides]
    settings = compose_settings(words)
    with _progress(verbose):
        runner = ChainRunner(settings, words)
        if not runner.has_target:
            raise UserError("chain: it has no target, so there would be no run. Add the target.")
        folder = runner.run()
    return load_runs(folder)[0]


def load_runs(*paths: PathLike) -> Runs:
    """Read the finished runs in these folders: outputs, runs, or single run folders.

    Raises:
        UserError: a folder holds no run, or a finished run is damaged.
    """
    finished, _ = read_runs(find_runs([Path(path) for path in paths or ("outputs",)]))
    return Runs(sorted(finished, key=run_order))


def report(
    *paths: PathLike,
    out: PathLike | None = None,
    only: Sequence[str] = (),
    conditions: Sequence[str] = (),
    resamples: int = 2000,
) -> Path:
    """Write the report on the runs in these folders, and return its folder.

    Args:
        paths: as for `load_runs`.
        out: the report's folder; None: `report` beside the runs.
        only: "key=value" of config.yaml that a run must have.
        conditions: those that are compared; empty: all that are found. Their pairs are the family
            of Holm's correction.
        resamples: number of bootstrap resamples behind the intervals.

    Raises:
        UserError: no run is finished, or the runs cannot be compared.
    """
    return make_report(
        [Path(path) for path in paths or ("outputs",)],
        Path(out) if out is not None else None,
        only=only,
        conditions=conditions,
        count=resamples,
    )


@contextmanager
def _progress(verbose: bool) -> Iterator[None]:
    """Show the package's log lines within the block, without touching the root logger."""
    logger, handler = logging.getLogger("stagetransfer"), logging.StreamHandler()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
