"""Build the report of finished runs from their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stagetransfer.errors import UserError
from stagetransfer.reporting.render import write_report
from stagetransfer.reporting.sections import sections
from stagetransfer.runs.comparability import check_comparable, select
from stagetransfer.runs.pooled_folds import pool
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.study import Study
from stagetransfer.runs.tuning_depth import tell_depths


def make_report(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    only: Sequence[str] = (),
    visualization: Path | None = None,
    count: int = 2000,
) -> Path:
    """Write the report of all runs at `paths` and return its folder.

    The runs on the folds of one split file are pooled: each image is tested once per seed. The
    same runs give the same files.

    Args:
        paths: run folders, `runs` folders, outputs folders and Hydra's sweep folders, in any mix.
        out: the folder of the report; None: `report` beside the `runs` folder of the first run.
        only: "key=value" pairs that the config.yaml of a run must have.
        visualization: a folder whose CSV and PNG files are included.
        count: the number of bootstrap resamples.

    Raises:
        UserError: no run is finished, or the runs cannot be compared.
    """
    folders = find_runs(paths)
    finished, unfinished = read_runs(folders)
    if not finished:
        raise UserError(
            f"{paths[0]}: none of {len(folders)} runs is finished (none has metrics.json); wait "
            "for one, or go on with the sweep's command"
        )
    runs, unfinished = tell_depths(select(finished, only), select(unfinished, only))
    if not runs:
        raise UserError(f"--only {' '.join(only)}: no finished run's config.yaml says so")
    runs, unfinished = pool(runs, unfinished)
    check_comparable(runs)
    study = Study(runs, count)
    out = folders[0].parent.parent / "report" if out is None else out
    _remove_earlier(out)
    write_report("StageTransfer report", sections(study, unfinished, out, visualization), out)
    return out


def _remove_earlier(out: Path) -> None:
    """Remove the tables and plots of an earlier report, because the new one may have fewer."""
    if (out / "report.html").is_file():
        for pattern in ("tables/*.csv", "tables/*.tex", "plots/*.png", "plots/*.svg"):
            for file in out.glob(pattern):
                file.unlink()
