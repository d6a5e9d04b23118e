"""Build the report of finished runs from their files: its sections, in the order of the page."""

from collections.abc import Callable, Sequence
from pathlib import Path

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Bullets, Section, Text
from stagetransfer.pages.render import replace_report
from stagetransfer.reporting.answer_section import answer_section
from stagetransfer.reporting.calibration_section import calibration_sections
from stagetransfer.reporting.class_section import class_section
from stagetransfer.reporting.depth_section import depth_sections
from stagetransfer.reporting.ensemble_section import ensemble_sections
from stagetransfer.reporting.fold_section import fold_sections
from stagetransfer.reporting.overview_section import overview_section, runs_table
from stagetransfer.reporting.pair_tables import pair_blocks
from stagetransfer.reporting.roc_section import roc_section
from stagetransfer.reporting.share_sections import share_sections
from stagetransfer.reporting.sources_table import sources_table
from stagetransfer.reporting.stress_section import stress_sections
from stagetransfer.reporting.table2 import table_2
from stagetransfer.reporting.table3 import table_3
from stagetransfer.reporting.training_section import (
    images_table,
    learning_curves,
    learning_curves_block,
    stages_table,
)
from stagetransfer.reporting.visualization_section import visualization_section
from stagetransfer.runs.gather import Gathered, write_each
from stagetransfer.runs.study import Study
from stagetransfer.terminal import progress


def make_report(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    only: Sequence[str] = (),
    conditions: Sequence[str] = (),
    visualization: Path | None = None,
    paper: bool = False,
    count: int = 2000,
) -> Path:
    """Write the report of all runs at `paths` and return its folder.

    The runs of each data set have a report of their own. Of several, each is in a folder of the
    report's folder, whose page is an index. The runs on the folds of one split file are pooled:
    each image is tested once per seed. The same runs give the same files.

    Args:
        paths: run folders, `runs` folders, outputs folders and Hydra's sweep folders, in any mix.
        out: the folder of the report; None: `report` beside the `runs` folder of the first run.
        only: "key=value" pairs that the config.yaml of a run must have.
        conditions: those that are compared; empty: all that are found. Their pairs are the family
            of Holm's correction.
        visualization: a folder whose CSV and PNG files are included; of several data sets, each
            has its own within it.
        paper: show the figures of Suzuki et al. 2018 beside those of any data set. They are shown
            in any case beside those of data in the layout of theirs (dld).
        count: the number of bootstrap resamples.
    """

    def write(found: Gathered, folder: Path) -> tuple[Gathered, Path]:
        study = Study(found.runs, count, found.conditions)
        study.with_paper |= paper
        page = _page(study, found)
        if visualization is not None:
            own = visualization.name == found.data_set
            page.append(visualization_section(visualization / ("" if own else found.data_set)))
        page.sort(key=lambda section: section.appendix)
        replace_report("StageTransfer report", page, folder)
        return found, folder

    written, left_out = write_each(
        write, paths, out, "report", only=only, conditions=conditions, shares=True
    )
    found, folder = written[0]
    if not found.data_set or (len(written) == 1 and not left_out):
        return folder
    replace_report("StageTransfer reports", _index(written, left_out), folder.parent)
    return folder.parent


def _index(written: Sequence[tuple[Gathered, Path]], left_out: Sequence[str]) -> list[Section]:
    """Return the page that leads to the report of each data set."""
    page = [
        Section(
            f"{found.data_set}: {fmt.count(len(found.runs), 'finished run')}",
            [Text(f"{folder.name}/report.html", kind="link")],
        )
        for found, folder in written
    ]
    return [*page, Section("Left out", [Bullets(left_out)])] if left_out else page


def _page(study: Study, found: Gathered) -> list[Section]:
    main, unfinished = study.main_ratio, found.unfinished
    at = f"r = {fmt.ratio(main)}"
    curves = learning_curves(study)
    curves_plot = learning_curves_block(study, main, curves)

    def appendix(ratio: float) -> Section:
        blocks = [table_2(study, ratio), *pair_blocks(study, ratio)]
        blocks.append(learning_curves_block(study, ratio, curves))
        return Section(f"Appendix: r = {fmt.ratio(ratio)}", blocks, appendix=True)

    parts: dict[str, Callable[[], Section | list[Section]]] = {
        "answer": lambda: answer_section(
            study, [*sources_table(study), runs_table(study, unfinished)]
        ),
        "overview": lambda: overview_section(study, unfinished),
        "test results": lambda: Section(f"Test results at {at}", [table_2(study, main)]),
        "pairs": lambda: Section(f"Pairs of conditions at {at}", pair_blocks(study, main)),
        "depths": lambda: depth_sections(study),
        "less data": lambda: Section("Less training data", table_3(study)),
        "shares": lambda: share_sections(found, study.count),
        "ROC curves": lambda: roc_section(study),
        "classes": lambda: class_section(study),
        "training": lambda: Section(
            "Training", [images_table(study), curves_plot, stages_table(study)]
        ),
        "calibration": lambda: calibration_sections(study),
        "ensemble": lambda: ensemble_sections(study),
        "stress": lambda: stress_sections(study, found.outputs, found.data_set),
        "other ratios": lambda: [appendix(ratio) for ratio in reversed(study.ratios[:-1])],
        "folds": lambda: fold_sections(study),
    }
    page = []
    with progress("report", len(parts)) as step:
        for name, part in parts.items():
            step(name)
            made = part()
            page += made if isinstance(made, list) else [made]
    return page
