"""The sections of a report, in the order of the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stagetransfer.reporting import formatting as fmt
from stagetransfer.reporting.blocks import Section
from stagetransfer.reporting.calibration_section import calibration_sections
from stagetransfer.reporting.class_section import class_section
from stagetransfer.reporting.depth_section import depth_sections
from stagetransfer.reporting.figure5 import figure_5_block
from stagetransfer.reporting.fold_section import fold_sections
from stagetransfer.reporting.overview_section import overview_section
from stagetransfer.reporting.pair_tables import pair_blocks
from stagetransfer.reporting.roc_section import roc_section
from stagetransfer.reporting.table2 import table_2
from stagetransfer.reporting.table3 import table_3
from stagetransfer.reporting.training_section import (
    learning_curves,
    learning_curves_block,
    training_section,
)
from stagetransfer.reporting.visualization_section import visualization_section
from stagetransfer.runs.reader import Unfinished
from stagetransfer.runs.study import Study


def sections(
    study: Study, unfinished: Sequence[Unfinished], out: Path, visualization: Path | None = None
) -> list[Section]:
    """Return all sections, appendices last; plots are written below `out`.

    Args:
        visualization: a folder whose CSV and PNG files are included.
    """
    main = study.main_ratio
    at = f"r = {fmt.ratio(main)}"
    curves = learning_curves(study)
    page = [
        overview_section(study, unfinished),
        Section(f"Test results at {at}", table_2(study, main)),
        Section(f"Pairs of conditions at {at}", pair_blocks(study, main)),
        *depth_sections(study, out),
        Section("Less training data", [*table_3(study), figure_5_block(study, out)]),
        roc_section(study, out),
        class_section(study, out),
        training_section(study, curves, out),
        *calibration_sections(study, out),
    ]
    for ratio in reversed(study.ratios[:-1]):
        blocks = [*table_2(study, ratio), *pair_blocks(study, ratio)]
        blocks.append(learning_curves_block(study, ratio, curves, out))
        page.append(Section(f"Appendix: r = {fmt.ratio(ratio)}", blocks, appendix=True))
    page += fold_sections(study)
    if visualization is not None:
        page.append(visualization_section(visualization, out))
    return sorted(page, key=lambda section: section.appendix)
