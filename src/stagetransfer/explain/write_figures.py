"""Everything that `stagetransfer visualize` writes, in order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stagetransfer.explain import figure_pages
from stagetransfer.explain.compared_runs import Study, View
from stagetransfer.explain.image_grids import curves
from stagetransfer.explain.measure_tables import Tables
from stagetransfer.explain.measures import measure
from stagetransfer.figures import save_figure
from stagetransfer.files import write_text
from stagetransfer.models import LAYERS


def write_pictures(
    study: Study,
    out: Path,
    view: View,
    *,
    scale: str = "official",
    per_class: int = 1,
    pick: int = 0,
    several_seeds: bool = False,
    patch_layer: str = "conv2",
    images: int = 200,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Writes pages of pictures as PNG and SVG, tables as CSV, and summary.md into `out`.

    Args:
        per_class, pick: ROIs of each class, and the number that draws them.
        several_seeds: a column for each seed of a condition, else for its lowest.
        patch_layer: whose strongest patches are shown.
        images: about how many test images the numbers are measured on.
        say: is told what is being done.
    """
    rois = study.rois(per_class, pick)
    positions = study.sample(images)
    lowest = [runs[0] for runs in study.conditions.values()]
    shown = list(study.runs) if several_seeds else lowest
    say(f"figure6: {len(rois)} ROIs, {len(shown)} runs")
    save_figure(figure_pages.figure6(study, shown, rois, view, scale), out / "figure6")
    save_figure(figure_pages.first_filters(shown), out / "filters")
    for run in lowest:
        say(f"control and patches: {run.name}")
        save_figure(
            figure_pages.control(study, run, rois, view, scale), out / f"control_{run.condition}"
        )
        page = figure_pages.patches(study, run, positions, patch_layer, scale)
        save_figure(page, out / f"patches_{run.condition}")
    measured = []
    for run in study.runs:
        say(f"numbers on {len(positions)} images: {run.name}")
        measured.append(measure(study, run, positions, view))
    _numbers(out, study, Tables(study, measured, positions), view)


def _numbers(out: Path, study: Study, tables: Tables, view: View) -> None:
    edges, words = tables.edges()
    likeness, between, transfers = tables.likeness(), tables.cka_between(), tables.cka_transfers()
    for name, table in (
        ("edges", edges),
        ("likeness", likeness),
        ("cka_between", between),
        ("cka_transfers", transfers),
    ):
        if not table.empty:
            write_text(out / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    _plot_likeness(out, likeness)
    _plot_edges(out, edges)
    if not between.empty:
        lines = {f"{a} - {b}": part for (a, b), part in between.groupby(["a", "b"], sort=False)}
        _plot_cka(out / "cka_between", lines, "Likeness of the conditions' features, same seed")
    if not transfers.empty:
        keys = ["condition", "before", "after"]
        lines = {
            f"{name}: {before} to {after}": part
            for (name, before, after), part in transfers.groupby(keys, sort=False)
        }
        _plot_cka(out / "cka_transfers", lines, "Features before and after each transfer")
    write_text(out / "summary.md", _summary(study, edges, words, likeness, view, tables))


def _plot_likeness(out: Path, table: pd.DataFrame) -> None:
    levels = list(dict.fromkeys(table["random_from"]))
    panels = []
    for measure_name, label in (
        ("ssim_input", "SSIM with the input"),
        ("rank_input", "rank correlation with the input"),
        ("ssim_trained", "SSIM with the trained network's"),
        ("rank_trained", "rank correlation with the trained network's"),
    ):
        part = table[table["measure"] == measure_name]
        panels.append(
            (
                label,
                {
                    str(name): _points(rows, "value")
                    for name, rows in part.groupby("condition", sort=False)
                },
            )
        )
    save_figure(
        curves(
            panels,
            levels,
            title="The control: pictures as layers get random weights, from fc8 on",
            xlabel="random from",
            limits=(-0.3, 1.05),
        ),
        out / "likeness",
    )


def _plot_edges(out: Path, table: pd.DataFrame) -> None:
    lines = {
        "trained": _points(table, "edge_share"),
        "random weights": _points(table, "random_weights"),
        "share of the area": [(float(area), np.nan, np.nan) for area in table["edge_area"]],
    }
    save_figure(
        curves(
            [("share of energy on edges", lines)],
            list(table["condition"]),
            title="How much of the pictures lies on edges of the input",
            xlabel="condition",
            joined=False,
        ),
        out / "edges",
    )


def _plot_cka(stem: Path, tables: dict[str, pd.DataFrame], title: str) -> None:
    lines = {
        name: list(zip(*(part[key].tolist() for key in ("cka", "least", "greatest")), strict=True))
        for name, part in tables.items()
    }
    figure = curves(
        [("linear CKA (unbiased)", lines)],
        LAYERS,
        title=title,
        xlabel="layer; bars from least to greatest over seeds",
        limits=(-0.1, 1.05),
    )
    save_figure(figure, stem)


def _points(table: pd.DataFrame, name: str) -> list[tuple[float, float, float]]:
    columns = [table[f"{name}{end}"].to_numpy(float) for end in ("", "_low", "_high")]
    return [(float(a), float(b), float(c)) for a, b, c in zip(*columns, strict=True)]


def _summary(
    study: Study,
    edges: pd.DataFrame,
    words: Sequence[str],
    likeness: pd.DataFrame,
    view: View,
    tables: Tables,
) -> str:
    lines = [
        "# What the features see",
        "",
        f"{view.method}, layer {view.layer}, start {view.seed}; {len(tables.positions)} of "
        f"{len(study.labels)} test images. 95 % intervals over seeds and "
        f"{'images' if study.groups is None else 'patients'}.",
        "",
        "![Figure 6](figure6.png)",
        "",
        "## Share of the pictures' energy on the input's edges",
        "",
        "| condition | trained | random weights | share of the area | seeds |",
        "|---|---|---|---|---|",
    ]
    for row in edges.to_dict("records"):
        lines.append(
            f"| {row['condition']} | {_said(row, 'edge_share')} | {_said(row, 'random_weights')} | "
            f"{row['edge_area']:.3f} | {row['seeds']} |"
        )
    lines += ["", *(f"* {line}" for line in words), "", "![edges](edges.png)", ""]
    lines += ["## How much the pictures say of the network", "", *_control_words(likeness), ""]
    lines += ["![likeness](likeness.png)", ""]
    lines += [
        "Each condition's cascade: "
        + ", ".join(f"[{name}](control_{name}.png)" for name in study.conditions),
        "",
    ]
    return "\n".join(lines)


def _control_words(table: pd.DataFrame) -> list[str]:
    result = []
    for name, part in table.groupby("condition", sort=False):
        values = {(row["random_from"], row["measure"]): row for row in part.to_dict("records")}
        trained = values["trained", "ssim_input"]
        random = values["conv1", "ssim_input"]
        kept = values["conv1", "ssim_trained"]
        result.append(
            f"* {name}: SSIM with the input {_said(trained, 'value')} trained, "
            f"{_said(random, 'value')} with all weights random; between these two pictures "
            f"{_said(kept, 'value')}"
        )
    return result


def _said(row: Mapping[Hashable, Any], name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
