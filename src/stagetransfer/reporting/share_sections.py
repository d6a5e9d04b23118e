"""Wrong training labels and a long tail of classes: results against the share r that is left."""

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Bullets, Plot, Section, Text
from stagetransfer.reporting.answer_section import accuracy_table
from stagetransfer.reporting.figure5 import CAPTION, figure_5
from stagetransfer.reporting.table3 import table_3
from stagetransfer.runs.gather import Gathered
from stagetransfer.runs.study import Study
from stagetransfer.runs.training_shares import LABELS

NOT_SHOWN = (
    "Not shown here: {}. This section shows only runs with the greatest ratio of the training "
    "images, in which only one of label_noise and long_tail differs from the best training set."
)


def share_sections(found: Gathered, count: int) -> list[Section]:
    """Return a section for each of `label_noise` and `long_tail` in which the runs differ."""
    sections = []
    for share, own in found.by_share.items():
        study = Study(own.runs, count, own.conditions, share)
        ratio = fmt.ratio(max(run.ratio for run in found.runs))
        text = f"{share.meaning} The share of the training images is {ratio} in all of these runs. "
        blocks: list[Block] = [Text(text + "Validation and test images are unchanged.")]
        lines = [f"{run.folder.name}: {run.reason}" for run in own.unfinished]
        if found.not_shown:
            lines.append(NOT_SHOWN.format(fmt.join(found.not_shown)))
        if lines:
            blocks.append(Bullets(lines, kind="problems"))
        name, title = f"figure5{fmt.share_suffix(study)}", f"Against the share r of {share.of}"
        blocks += [Plot(name, title, CAPTION, figure_5(study)), accuracy_table(study)]
        heading = "Wrong training labels" if share == LABELS else "A long tail of classes"
        sections.append(Section(heading, [*blocks, *table_3(study)]))
    return sections
