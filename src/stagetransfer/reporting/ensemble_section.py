"""The ensemble of all conditions against the best of them: what combining gains."""

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Bullets, Section, Table
from stagetransfer.reporting.calibration_section import FILE
from stagetransfer.runs.ensembles import FIGURES, EnsembleGain, ensemble_study
from stagetransfer.runs.study import Study

NOTE = (
    "The ensemble is the mean of the conditions' probabilities, each at the temperature that fits "
    "its validation images. best: the condition with the lowest cross-entropy on validation "
    "images. In each cell: the ensemble's metric, and ensemble - best with its 95 % interval, "
    "paired by seed and patient (points; nats for the cross-entropy). These comparisons are not "
    "corrected for their number."
)


def ensemble_sections(study: Study) -> list[Section]:
    """Return the section; none with a single condition, or without validation predictions."""
    has_validation = all((part.folder / FILE).is_file() for run in study.runs for part in run.parts)
    if len(study.conditions) < 2 or not has_validation:
        return []
    done = ensemble_study(study.runs, study.count)
    if not done.made:
        return []
    rows = [[fmt.ratio(gain.ratio), gain.pair.b, *_cells(gain)] for gain in done.gains]
    columns = ["r", "best", *(fmt.LABELS[name] for name in FIGURES)]
    title = "The ensemble of all conditions compared with the best condition"
    table = Table("ensemble", title, columns, rows, [NOTE], done.table(), left=2)
    left_out = [Bullets(done.left_out)] if done.left_out else []
    return [Section("Ensemble", [table, *left_out])]


def _cells(gain: EnsembleGain) -> list[str]:
    if gain.pair.refusal:
        return [f"not compared: {gain.pair.refusal}", *[fmt.DASH] * (len(FIGURES) - 1)]
    cells = []
    for name, gap in gain.pair.metrics.items():
        shown = fmt.difference(gap.estimate, gap.low, gap.high, fmt.UNITS[name])
        cells.append(f"{fmt.number(gain.both[name].estimate)} ({shown.replace(chr(10), ' ')})")
    return cells
