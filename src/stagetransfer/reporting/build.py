"""Builds the report of a sweep from the files of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stagetransfer.reporting.explanation_section import visualization_section
from stagetransfer.reporting.fold_tables import fold_sections
from stagetransfer.reporting.render import write_report
from stagetransfer.reporting.sections import sections
from stagetransfer.runs.gather import gather_runs
from stagetransfer.runs.study import Study


def make_report(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    only: Sequence[str] = (),
    visualization: Path | None = None,
    count: int = 2000,
) -> Path:
    """Writes the report on all runs at `paths` and returns its folder.

    paths: run folders, `runs` folders, outputs folders, Hydra's sweep folders, mixed. out: the
    report's folder; None: `report` beside the first run's `runs`. only: "key=value" of config.yaml
    that a run must have. visualization: a folder whose CSV and PNG are taken in. count: resamples.
    The runs on the folds of one split file are pooled: every image is tested once a seed. The same
    runs give the same files. Raises UserError if there is no finished run, or if runs
    can't be compared.
    """
    found = gather_runs(paths, only=only)
    study = Study(found.runs, count)
    out = found.outputs / "report" if out is None else out
    _clear(out)
    page = sections(study, found.unfinished, out)
    for section in fold_sections(study):
        last = len(page) if section.appendix else sum(not other.appendix for other in page)
        page.insert(last, section)
    if visualization is not None:
        first_appendix = sum(not section.appendix for section in page)
        page.insert(first_appendix, visualization_section(visualization, out))
    write_report("StageTransfer report", page, out)
    return out


def _clear(out: Path) -> None:
    """Takes away an earlier report's tables and plots, which the new one may not have."""
    if (out / "report.html").is_file():
        for kind in ("tables/*.csv", "tables/*.tex", "plots/*.png", "plots/*.svg"):
            for file in out.glob(kind):
                file.unlink()
