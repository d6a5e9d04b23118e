"""What limits a comparison, as lines of text: the test images, copies, and the trainings."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import product

from stagetransfer.pages import formatting as fmt
from stagetransfer.reporting.sources_table import find_sources
from stagetransfer.runs.comparability import differences
from stagetransfer.runs.run import LEARNED, trained_runs
from stagetransfer.runs.study import Study
from stagetransfer.runs.verdict import not_learned


def grave_limits(study: Study) -> list[str]:
    """Return the lines that decide what a comparison can say: failed trainings, unlike settings."""
    failed = [
        f"{condition}, r = {fmt.ratio(ratio)}: {text}. No comparison is made with them."
        for condition, ratio in product(study.conditions, study.ratios)
        if (text := not_learned(study.at(condition, ratio)))
    ]
    return [*failed, *_sources(study), *unlike_conditions(study)]


def further_limits(study: Study) -> list[str]:
    """Return other lines: on the data, the remarks of the trainings, and what searches chose."""
    return [*_data(study), *_remarks(study), *_rates(study)]


def unlike_conditions(study: Study) -> list[str]:
    """Return in which settings, other than the chain, conditions differ, and runs in software."""
    first, *others = [study.at(name)[0] for name in study.conditions]
    lines = [
        f"{first.condition} and {run.condition} differ in more than their chain: {key} is {a} and "
        f"{b}"
        for run in others
        for key, (a, b) in differences(first, run, ignore_place=True).items()
    ]
    for name in sorted({name for run in study.runs for name in run.versions}):
        found = sorted({run.versions.get(name, "unknown") for run in study.runs})
        if len(found) > 1:
            lines.append(f"runs were made with different versions of {name}: {fmt.join(found)}")
    return lines


def _sources(study: Study) -> Iterator[str]:
    verdicts: dict[tuple[str, str], list[str]] = {}
    for source in find_sources(study):
        verdict = source.health.get("verdict", LEARNED)
        verdicts.setdefault((source.condition, source.stage), []).append(verdict)
    for (condition, stage), found in verdicts.items():
        if failed := [verdict for verdict in found if verdict != LEARNED]:
            yield (
                f"{condition}: the source stage {stage} did not learn in {len(failed)} of "
                f"{fmt.count(len(found), 'training')} ({fmt.join(sorted({*failed}))}), so this "
                "condition says little about its domain. The table of sources has the numbers."
            )


def _remarks(study: Study) -> Iterator[str]:
    """Yield each remark once, with the stages that it was made on; numbers may differ."""
    healths = [((run.condition, "target"), run.health) for run in trained_runs(study.runs)]
    healths += [((of.condition, of.stage), of.health) for of in find_sources(study)]
    trainings = Counter(place for place, _ in healths)
    found: dict[str, list[tuple[tuple[str, str], str]]] = {}
    for place, health in healths:
        for remark in health.get("remarks") or ():
            found.setdefault(re.sub(r"\d+(\.\d+)?", "#", remark), []).append((place, remark))
    for places in found.values():
        counts = Counter(place for place, _ in places).items()
        of = fmt.join(f"{' '.join(place)} in {n} of {trainings[place]}" for place, n in counts)
        also = "; the numbers differ" if len({remark for _, remark in places}) > 1 else ""
        yield f"{places[0][1].rstrip('.')} ({of} trainings{also})"


def _rates(study: Study) -> list[str]:
    """Return what the searches of learning rate and epochs chose, by condition and ratio."""
    lines = []
    for condition, ratio in product(study.conditions, study.ratios):
        runs = trained_runs(study.at(condition, ratio))
        if not (found := [run.search_rates for run in runs if run.search_rates]):
            continue
        chosen = Counter((x["lr"], x["epochs"]) for x in found).most_common()
        texts = [f"{lr:g} and {epochs} (in {fmt.count(n, 'run')})" for (lr, epochs), n in chosen]
        tried = fmt.join(sorted({len(x["tried"]) for x in found}))
        monitor = str(found[0]["monitor"])
        lines.append(
            f"{condition}, r = {fmt.ratio(ratio)}: the learning rate and the number of epochs were "
            f"chosen among {tried} settings by validation {fmt.LABELS.get(monitor, monitor)}: "
            f"{'; '.join(texts)}."
        )
    without = Counter(run.condition for run in trained_runs(study.runs) if not run.search_rates)
    if lines and without:
        texts = [f"{name} ({fmt.count(n, 'run')})" for name, n in without.items()]
        lines.append(f"no search of the learning rate and the number of epochs: {fmt.join(texts)}.")
    return lines


def _data(study: Study) -> list[str]:
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
            f"only one {unit} in {fmt.join(study.alone)}: intervals that depend on these classes "
            f"cannot be estimated ({fmt.DASH} in the tables)."
        )
    for name in ("confounder", "label_noise", "long_tail"):
        values = {run.config.get(f"domain.{run.chain[-1]}.{name}") for run in study.runs}
        if values != {None}:
            shown = fmt.join(sorted("none" if x is None else str(x) for x in values))
            lines.append(f"the data of the target were changed on purpose: {name} is {shown}.")
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
