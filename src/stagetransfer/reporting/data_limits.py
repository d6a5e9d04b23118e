"""What the test images and the copies among the target's images say about a comparison."""

from stagetransfer.pages import formatting as fmt
from stagetransfer.runs.study import Study


def data_limits(study: Study) -> list[str]:
    """Return a line for absent classes, for classes with a single patient, and for copies."""
    lines = []
    if absent := study.absent:
        present = len(study.classes) - len(absent)
        lines.append(
            f"no test image of {fmt.join(absent)}: averages are over {present} of "
            f"{len(study.classes)} classes."
        )
    if study.alone:
        unit = "image" if study.groups is None else "group (patient)"
        lines.append(
            f"only one {unit} in {fmt.join(study.alone)}: how sure the figures are that depend on "
            f"these classes cannot be estimated ({fmt.DASH} in the tables)."
        )
    for name in ("confounder", "label_noise", "long_tail"):
        values = {run.config.get(f"domain.{run.chain[-1]}.{name}") for run in study.runs}
        if values != {None}:
            shown = fmt.join(sorted("none" if x is None else str(x) for x in values))
            lines.append(f"the target was changed on purpose: {name} is {shown}.")
    found = study.runs[0].identical_images or {}
    for kind, meaning in (
        ("across_splits", "another split, so the test is easier than it looks"),
        ("across_classes", "another class, so one of the labels is wrong"),
    ):
        if number := found.get(kind, 0):
            pairs = found.get("pairs", {}).get(kind) or [("?", "?")]
            first, second = pairs[0]
            verb = "has" if number == 1 else "have"
            lines.append(
                f"{fmt.count(number, 'image')} of the target {verb} the same pixels as one in "
                f"{meaning}: {first} and {second}, for example."
            )
    return lines
