"""The runs: their states, the health of sources and stages, settings that differ, live curves."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stagetransfer.config.identity import role_of
from stagetransfer.errors import UserError
from stagetransfer.figures import STYLE
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages import plots
from stagetransfer.pages.blocks import Bullets, Plot, Section, Table, Text, data_frame
from stagetransfer.reporting.figure5 import LABELS
from stagetransfer.reporting.overview_section import runs_table
from stagetransfer.reporting.sources_table import sources_table
from stagetransfer.runs.reader import is_running
from stagetransfer.runs.training_curves import stage_curve
from stagetransfer.serve.overview_page import choice
from stagetransfer.serve.site import Site

STATES = ("running", "failed", "damaged", "unfinished", "finished")
ROLES = {"decides": "yes", "place": "place in the sweep", "idle": "no"}


def runs(site: Site, request: Request) -> Response:
    """List all runs, the sources of a data set, and the settings in which two runs differ."""
    names = sorted([*site.runs, *site.unfinished, *site.damaged])
    rows = [_row(site, name) for name in names]
    rows.sort(key=lambda row: STATES.index(row["state"]))
    query = request.query_params
    pair = [name for name in query.getlist("run") if name in site.readable]
    configs = [site.readable[name].config for name in pair]
    unlike = _differences(*configs) if len(pair) == 2 else None
    data_set, health, problem = choice(site, request)[0], "", ""
    if data_set:
        try:
            study, unfinished = site.study(data_set, (), ())
            tables = [*sources_table(study), runs_table(study, unfinished)]
            health = site.blocks(Section("Sources", [*tables]))
        except UserError as error:
            problem = str(error)
    return site.page(
        request, "runs", "Runs", rows=rows, pair=pair,
        unlike=unlike, data_set=data_set, health=health, problem=problem,
    )  # fmt: skip


def run(site: Site, request: Request) -> Response:
    """Show a run: its state, its stages with their health, its settings, its training curves."""
    name = request.path_params["name"]
    if name not in site.readable:
        raise HTTPException(404, f"{name[:100]}: no such run")
    found = site.runs.get(name)
    blocks: list[Any] = []
    if found is not None:
        cells = [[fmt.number(value) for value in found.metrics.values()]]
        columns = [fmt.LABELS[name] for name in found.metrics]
        test = f"Test metrics ({fmt.count(len(found.ids), 'image')})"
        blocks = [Table("test", test, columns, cells, [], data_frame(columns, cells))]
        blocks += [block for stage in found.stages for block in _health(stage)]
    return site.page(
        request, "run", name, row=_row(site, name), health=site.blocks(Section("Run", blocks)),
        settings=site.readable[name].config, curves=_curves(site, name),
    )  # fmt: skip


def curves(site: Site, request: Request) -> Response:
    """Return the part of a run's page that changes while it is running."""
    name = request.path_params["name"]
    if name not in site.readable:
        raise HTTPException(404, "no such run")
    row = _row(site, name)
    return site.page(request, "curves", name, row=row, curves=_curves(site, name))


def _row(site: Site, name: str) -> dict[str, str]:
    """Return what the list of runs shows of one."""
    row = dict.fromkeys(("condition", "ratio", "seed", "accuracy", "line"), "") | {"name": name}
    if name in site.damaged:
        return row | {"state": "damaged", "line": site.damaged[name]}
    place: tuple[str, float, int] | None
    if name in site.runs:
        run = site.runs[name]
        place = run.place
        row["line"] = "" if run.learned else f"did not learn ({run.verdict})"
        row["accuracy"] = fmt.number(float((run.probabilities.argmax(1) == run.labels).mean()))
        state = "finished"
    else:
        one = site.unfinished[name]
        place = one.place
        state = "failed" if one.cause else "unfinished"
        row["line"] = one.cause or "No process is training it. The same command continues it."
        if is_running(one.folder):
            state, row["line"] = "running", ""
    if place is not None:
        condition, ratio, seed = place
        row |= {"condition": condition, "ratio": fmt.ratio(ratio), "seed": str(seed)}
    return row | {"state": state}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the keys with unlike values in two configs, with both, and whether they decide."""
    return [
        (key, str(a.get(key, fmt.DASH)), str(b.get(key, fmt.DASH)), ROLES[role_of(key)])
        for key in dict.fromkeys([*a, *b])
        if a.get(key, fmt.DASH) != b.get(key, fmt.DASH)
    ]


def _health(stage: Mapping[str, Any]) -> list[Text | Bullets]:
    """Return what a stage recorded about its training."""
    health = stage.get("health") or {}
    title = f"Stage {stage['name']}: {stage.get('epochs', '?')} epochs"
    if stage.get("reused"):
        title += ", reused from the store"
    if not health:
        return [Text(f"{title}; whether it learned is not recorded.")]
    recall = fmt.mean(health["recall"], health["low"], health["high"]).replace("\n", " ")
    title += f"; {health['verdict']}; validation recall {recall}, chance "
    title += fmt.number(health["chance"])
    remarks = [str(one) for one in health.get("remarks", ())]
    kind = "text" if health.get("learned") else "warning"
    return [Text(f"{title}.", kind=kind), *([Bullets(remarks)] if remarks else [])]


def _curves(site: Site, name: str) -> str:
    """Return the validation curves of a run's stages as HTML; a line if there are none yet."""
    drawn, folder = {}, site.readable[name].folder
    line = "No curve yet: those of a source stage appear here when it is finished."
    for stage in sorted((folder / "logs").glob("*/")):
        try:
            curve = stage_curve(stage)
        except UserError as error:  # while the first line is written
            line = line if is_running(folder) else str(error)
            continue
        if {*LABELS} <= {*curve}:
            drawn[stage.name] = curve
    if not drawn:
        return site.blocks(Section("Curves", [Text(line)]))
    last = [
        f"{stage}: epoch {curve['epoch'].iloc[-1]}, accuracy {curve['accuracy'].iloc[-1]:.3f}"
        for stage, curve in drawn.items()
    ]
    title, text = "Validation metrics by epoch", "; ".join(last)
    plot = Plot("curves", title, f"Last: {text}.", _plot(drawn), f"{title}. Last: {text}.")
    return site.blocks(Section("Curves", [plot]))


@mpl.rc_context(STYLE)
def _plot(curves: Mapping[str, pd.DataFrame]) -> Figure:
    figure, axes = plots.grid(2, 2, (4.3, 3.0))
    styles = plots.line_styles(curves)
    for axis, (metric, label) in zip(axes, LABELS.items(), strict=True):
        for stage, curve in curves.items():
            axis.plot(curve["epoch"], curve[metric], label=stage, **styles[stage])
        axis.set(xlabel="epoch", ylabel=f"validation {label}")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    plots.legend(figure, axes)
    return figure
