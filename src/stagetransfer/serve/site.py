"""What all pages share: the runs at some paths as they are now, their studies, the templates."""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from starlette.requests import Request
from starlette.responses import HTMLResponse

from stagetransfer.config.identity import role_of
from stagetransfer.errors import UserError
from stagetransfer.figures import figure_bytes
from stagetransfer.pages.blocks import Plot, Section
from stagetransfer.pages.render import data_uri, page_templates
from stagetransfer.reporting.answer_section import answer_section
from stagetransfer.runs.data_sets import by_data_set
from stagetransfer.runs.gather import DATA_SET, group_runs
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.run import Run, UnfinishedRun
from stagetransfer.runs.study import Study, condition_order

FILES = ("metrics.json", "predictions.csv", "config.yaml", "failure.txt")
MAX_CHOICES = 10  # values of a setting that a filter offers

Settings = tuple[str, ...]


class Site:
    """The runs at `paths`, read again when their files change.

    Attributes:
        runs: the finished runs, by name; `unfinished` are those without a result, `readable` both.
        damaged: why a finished run cannot be read, by name.
        data_sets: the finished runs of each data set, by its name.
        opinion: the input folder of the second opinion and the name of the run that reads it.
    """

    def __init__(
        self, paths: Sequence[Path], opinion: tuple[Path, str] | None = None, device: str = "cpu"
    ) -> None:
        self.paths, self.device = list(paths), device
        self.kept: dict[str, Any] = {}  # images and networks of runs, see `serve.run_images`
        self.opinion = opinion
        self.reading: Any = None  # of the second opinion, see `serve.slices_page`
        self.templates = page_templates(_embedded, "stagetransfer.serve")
        self._read: dict[Path, tuple[object, Run | UnfinishedRun | str]] = {}
        self.study = lru_cache(maxsize=8)(self._study)
        self.answer = lru_cache(maxsize=8)(self._answer)
        self.refresh()
        with suppress(UserError):  # runs that cannot be compared; the page says why
            self.answer(next(iter(self.data_sets), ""), (), ())

    def refresh(self) -> None:
        """Read the runs whose files have changed. UserError if the paths hold no run."""
        now = {folder: _state(folder) for folder in find_runs(self.paths)}
        if now == {folder: state for folder, (state, _) in self._read.items()}:
            return
        before, self._read = self._read, {}
        for folder, state in now.items():
            known, found = before.get(folder, (None, ""))
            self._read[folder] = state, found if known == state else _read_one(folder)
        read = [item for _, item in self._read.values()]
        self.runs = {run.name: run for run in read if isinstance(run, Run)}
        self.unfinished = {one.folder.name: one for one in read if isinstance(one, UnfinishedRun)}
        self.damaged = {f.name: one for f, (_, one) in self._read.items() if isinstance(one, str)}
        self.readable: dict[str, Run | UnfinishedRun] = {**self.runs, **self.unfinished}
        self.data_sets = by_data_set(list(self.runs.values()))
        self.study.cache_clear()
        self.answer.cache_clear()

    def conditions(self, data_set: str) -> list[str]:
        """Return the conditions of the runs of a data set, in the order of a report."""
        runs = self.data_sets.get(data_set, [])
        return sorted({run.condition for run in runs}, key=condition_order)

    def settings(self, data_set: str) -> dict[str, list[str]]:
        """Return the settings that differ among the runs of a data set and decide, with values."""
        configs = [run.config for run in self.data_sets.get(data_set, [])]
        found = {}
        for key in dict.fromkeys(key for config in configs for key in config):
            given = [config[key] for config in configs if key in config]
            values = sorted({"null" if value is None else str(value) for value in given})
            many = 1 < len(values) <= MAX_CHOICES
            if many and key not in ("condition", "chain") and role_of(key) == "decides":
                found[key] = values
        return found

    def page(
        self, request: Request, template: str, title: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Return a page, or a part of one, from its template."""
        found = self.templates.get_template(f"{template}.html.jinja")
        text = found.render(title=title, request=request, site=self, **values)
        return HTMLResponse(text, status)

    def _study(
        self, data_set: str, only: Settings, conditions: Settings
    ) -> tuple[Study, list[UnfinishedRun]]:
        """Return the study of the runs of a data set with these settings, and those unfinished."""
        if not self.runs:
            raise UserError("No run is finished yet, so there is nothing to compare.")
        finished, unfinished = list(self.runs.values()), list(self.unfinished.values())
        wanted = [f"{DATA_SET}{data_set}", *only]
        found, errors, _ = group_runs(finished, unfinished, only=wanted, conditions=conditions)
        for error in errors.values():
            raise error
        return Study(found[0].runs, conditions=found[0].conditions), found[0].unfinished

    def _answer(self, data_set: str, only: Settings, conditions: Settings) -> str:
        """Return the first section of the report on these runs, as HTML."""
        return self.blocks(answer_section(self.study(data_set, only, conditions)[0], []))

    def blocks(self, section: Section) -> str:
        """Return a section of a report as HTML."""
        return self.templates.get_template("blocks.html.jinja").render(section=section)


def _state(folder: Path) -> tuple[int, ...]:
    """Return what changes when a file of a run does."""
    found = (os.stat(folder / name) for name in FILES if (folder / name).exists())
    return tuple(one for state in found for one in (state.st_size, state.st_mtime_ns))


def _read_one(folder: Path) -> Run | UnfinishedRun | str:
    """Return a run, or why it cannot be read."""
    try:
        finished, unfinished = read_runs([folder])
    except UserError as error:
        return str(error)
    return finished[0] if finished else unfinished[0]


def _embedded(plot: Plot) -> str:
    assert isinstance(plot.figure, Figure)
    return data_uri(figure_bytes(plot.figure, ".svg"), ".svg")
