"""What the trainings themselves say about the limits of a comparison, as lines of text."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product

from stagetransfer.reporting import formatting as fmt
from stagetransfer.reporting.sources_table import find_sources
from stagetransfer.runs.run import LEARNED, trained_runs
from stagetransfer.runs.study import Study
from stagetransfer.runs.verdict import not_learned


def training_limits(study: Study) -> list[str]:
    """Return the lines: failed trainings, unequal progress, remarks, and what searches chose."""
    failed = [
        f"{condition}, r = {fmt.ratio(ratio)}: {text}. No comparison is made with them."
        for condition, ratio in product(study.conditions, study.ratios)
        if (text := not_learned(study.at(condition, ratio)))
    ]
    return [*failed, *_sources(study), *_flags(study), *_remarks(study), *_rates(study)]


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


def _flags(study: Study) -> Iterator[str]:
    """Yield a line if conditions differ in progress, and one if validation images were few."""
    improving, few = (
        {
            name: (sum(bool(run.health.get(flag)) for run in runs), len(runs))
            for name in study.conditions
            if (runs := [run for run in trained_runs(study.at(name)) if run.health])
        }
        for flag in ("still_improving", "few_validation_images")
    )
    if len({part / whole for part, whole in improving.values()}) > 1:
        yield (
            f"runs that were still improving at their last epoch: {_counts(improving)}. More "
            "epochs could change the comparison."
        )
    if any(part for part, _ in few.values()):
        yield f"runs with few validation images: {_counts(few)}."


def _counts(by_condition: Mapping[str, tuple[int, int]]) -> str:
    return fmt.join(f"{name} {part} of {whole}" for name, (part, whole) in by_condition.items())


def _remarks(study: Study) -> Iterator[str]:
    """Yield the remarks of all stages, each once; remarks that differ in numbers alone are one."""
    healths = [((run.condition, "target stage"), run.health) for run in trained_runs(study.runs)]
    healths += [
        ((of.condition, f"source stage {of.stage}"), of.health) for of in find_sources(study)
    ]
    trainings = Counter(place for place, _ in healths)
    found: dict[tuple[str, str, str], list[str]] = {}
    for place, health in healths:
        for remark in health.get("remarks") or ():
            pattern = re.sub(r"\d+(\.\d+)?", "#", remark)
            found.setdefault((*place, pattern), []).append(remark)
    for (condition, stage, _), remarks in found.items():
        count = fmt.count(trainings[condition, stage], "training")
        alike = "" if len({*remarks}) == 1 else ", with other numbers in the others"
        yield f"{condition}, {stage}: {remarks[0]} ({len(remarks)} of {count}{alike})"


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
