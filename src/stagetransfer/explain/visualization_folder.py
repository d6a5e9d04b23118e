"""The folder that `stagetransfer visualize` writes: figures, tables and a summary page."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stagetransfer.errors import UserError
from stagetransfer.explain.compared_runs import ComparedRuns
from stagetransfer.explain.measure_figures import (
    cka_between_figure,
    cka_transfer_figure,
    edge_figure,
    similarity_figure,
)
from stagetransfer.explain.measure_tables import MeasureTables
from stagetransfer.explain.run_measures import measure_run
from stagetransfer.explain.saliency import SaliencyMethod
from stagetransfer.explain.saliency_figures import SaliencyFigures, filter_figure
from stagetransfer.explain.strongest_patches import receptive_field
from stagetransfer.figures import save_figure
from stagetransfer.files import csv_text, write_text
from stagetransfer.pages.render import templates_of
from stagetransfer.terminal import progress


def write_visualization(
    compared: ComparedRuns,
    out: Path,
    method: SaliencyMethod,
    *,
    scale: str = "official",
    per_class: int = 1,
    roi_seed: int = 0,
    all_seeds: bool = False,
    patch_layer: str | None = None,
    images: int = 200,
) -> list[str]:
    """Write figures as PNG and SVG, tables as CSV, and summary.md into the folder `out`.

    Return a line for each figure that cannot be drawn.

    Args:
        scale: one of the colour `SCALES`.
        per_class: the number of ROIs shown per class; `roi_seed` decides which.
        all_seeds: show all seeds of a condition in Figure 6, not only the lowest.
        patch_layer: the layer whose strongest patches are shown; None: the second block, if its
            values do not depend on the whole image.
        images: the approximate number of test images for the measures.
    """
    # The layers and the method are checked before anything is written.
    network = compared.runs[0].network()
    method = replace(method, layer=method.layer or network.feature_map)
    method.maps(network, compared.inputs(compared.runs[0], np.zeros(1, np.int64)))
    patched: str | None = patch_layer or network.blocks[1]
    notes = []
    try:
        receptive_field(network, str(patched))
    except UserError as error:
        if patch_layer:
            raise
        patched = None
        notes.append(f"no patches: {error}")
    rois, positions = compared.draw_rois(per_class, roi_seed), compared.draw_images(images)
    figures = SaliencyFigures(compared, rois, method, scale)
    lowest = [runs[0] for runs in compared.conditions.values()]
    shown = list(compared.runs) if all_seeds else lowest
    measures = []
    with progress("visualize", 1 + len(lowest) + len(compared.runs)) as step:
        step(f"figure6: {len(rois)} ROIs, {len(shown)} runs")
        save_figure(figures.figure6(shown), out / "figure6")
        try:
            save_figure(filter_figure(shown), out / "filters")
        except UserError as error:
            notes.append(f"no figure of filters: {error}")
        for run in lowest:
            step(f"control and patches: {run.name}")
            save_figure(figures.cascade(run), out / f"control_{run.condition}")
            if patched:
                patches = figures.patches(run, positions, patched)
                save_figure(patches, out / f"patches_{run.condition}")
        for run in compared.runs:
            step(f"measures on {len(positions)} images: {run.name}")
            measures.append(measure_run(compared, run, positions, method))
    tables = MeasureTables(compared, measures, positions)
    edges, similarity = tables.edges(), tables.similarity()
    for name, table, figure in (
        ("edges", edges, edge_figure),
        ("likeness", similarity, similarity_figure),
        ("cka_between", tables.cka_between(), cka_between_figure),
        ("cka_transfers", tables.cka_transfers(), cka_transfer_figure),
    ):
        if not table.empty:
            write_text(out / f"{name}.csv", csv_text(table, float_format="%.6g"))
            save_figure(figure(table), out / name)
    levels: dict[str, dict[tuple[str, str], Any]] = {}
    for row in similarity.to_dict("records"):
        levels.setdefault(row["condition"], {})[row["random_from"], row["measure"]] = row
    template = templates_of("stagetransfer.explain").get_template("summary.md.jinja")
    summary = template.render(
        method=method,
        measured=len(positions),
        total=len(compared.labels),
        unit="images" if compared.groups is None else "patients",
        edges=edges.to_dict("records"),
        comparisons=tables.edge_comparisons(),
        failures=compared.failures,
        similarity=levels,
        random=network.blocks[0],
    )
    write_text(out / "summary.md", summary)
    return notes
