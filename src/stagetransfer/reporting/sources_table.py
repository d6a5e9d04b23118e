"""The source stages beside their conditions: what each reached on validation data, and chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Table, data_frame
from stagetransfer.runs.run import Run, trained_runs
from stagetransfer.runs.study import Study

NOT_RECORDED = "not recorded"
COLUMNS = (
    "condition stage key source_seeds runs reused weights accuracy recall low high chance verdict"
)
NOTE = (
    "On the validation images of each source's own domain, also for stages that were reused from "
    "the store. recall: macro recall with its 95 % interval, or the mean and the range of several "
    "stages. learned: whether the interval lies above chance (1 / number of classes). A comparison "
    "of conditions says little about a domain whose stage did not learn."
)


@dataclass
class Source:
    """One source stage of a condition, what it recorded (or nothing), and the runs that used it."""

    condition: str
    stage: str  # position and domain, such as "1-natural"
    entry: Mapping[str, Any]  # of metrics.json
    health: Mapping[str, Any]
    validation: Mapping[str, Any]
    users: list[Run] = field(default_factory=list)
    reused: int = 0  # in how many of them it came from the store


def find_sources(study: Study) -> list[Source]:
    """Return the source stages by condition and place in the chain, each distinct key once."""
    found: dict[tuple[str, str, str], Source] = {}
    for run in trained_runs(study.runs):
        for number, entry in enumerate(run.stages[:-1], 1):
            key = run.condition, f"{number}-{entry['name']}", str(entry["key"])
            health, validation = entry.get("health") or {}, entry.get("validation") or {}
            source = found.setdefault(key, Source(*key[:2], entry, health, validation))
            source.users.append(run)
            source.reused += bool(entry["reused"])
    order = {name: i for i, name in enumerate(study.conditions)}
    return sorted(found.values(), key=lambda source: (order[source.condition], source.stage))


def sources_table(study: Study) -> list[Table]:
    """Return one row per condition and source stage; nothing if all runs are from scratch."""
    sources = find_sources(study)
    by_place: dict[tuple[str, str], list[Source]] = {}
    for source in sources:
        by_place.setdefault((source.condition, source.stage), []).append(source)
    rows = [[*place, *_cells(of)] for place, of in by_place.items()]
    columns = ["condition", "source stage", "validation accuracy", "recall", "chance", "learned"]
    columns += ["distinct stages", "source_seed", "reused"]
    data = data_frame(COLUMNS, map(_record, sources))
    title = "Sources: validation results of each source stage"
    notes = [NOTE]
    generated = {
        str(one.entry["name"])
        for one in sources
        if one.users[0].config.get(f"domain.{one.entry['name']}.layout") == "embedded"
        and not one.entry.get("weights")
    }
    if generated:
        notes.append(f"Embedded data, which are generated images: {fmt.join(sorted(generated))}.")
    return [Table("sources", title, columns, rows, notes, left=2, data=data)] if rows else []


def _cells(sources: Sequence[Source]) -> list[str]:
    healths = [source.health for source in sources if source.health]
    if any(source.entry.get("weights") for source in sources):
        first = [NOT_RECORDED] * 3 + ["published weights"]
    else:
        recall = _mean_and_range(sources, "recall")
        if len(sources) == len(healths) == 1:
            recall = fmt.mean(*(healths[0][name] for name in ("recall", "low", "high")))
        chances = sorted({fmt.number(health["chance"]) for health in healths})
        chance = fmt.join(chances) if chances else NOT_RECORDED
        learned = sum(bool(health["learned"]) for health in healths)
        verdict = fmt.join(sorted({health["verdict"] for health in healths}))
        if len(healths) > 1:
            verdict = f"{learned} of {len(healths)}\n{verdict}"
        verdict = verdict if healths else NOT_RECORDED
        verdict = "yes" if learned == len(sources) else verdict
        first = [_mean_and_range(sources, "accuracy"), recall, chance, verdict]
    runs = [run for source in sources for run in source.users]
    reused = sum(source.reused for source in sources)
    counts = f"{reused} of {fmt.count(len(runs), 'run')}"
    return [*first, str(len(sources)), fmt.join(_source_seeds(runs)), counts]


def _mean_and_range(sources: Sequence[Source], metric: str) -> str:
    """Return a validation metric, or the mean of several with their range on a second line."""
    found = [source.validation.get(metric) for source in sources]
    values = [float(value) for value in found if value is not None]
    if len(values) < 2:
        return fmt.number(values[0]) if values else NOT_RECORDED
    ends = f"{fmt.number(min(values))} to {fmt.number(max(values))}"
    return f"{fmt.number(float(np.mean(values)))}\n{ends}"


def _source_seeds(runs: Sequence[Run]) -> list[int]:
    return sorted({run.source_seed for run in runs if run.source_seed is not None})


def _record(source: Source) -> list[object]:
    """Return a row of `COLUMNS`; empty where the stage has no record."""
    seeds = " ".join(map(str, _source_seeds(source.users)))
    recall = source.health.get("recall", source.validation.get("recall"))
    return [
        *(source.condition, source.stage, source.entry["key"], seeds, len(source.users)),
        *(source.reused, source.entry.get("weights"), source.validation.get("accuracy"), recall),
        *(source.health.get(name) for name in ("low", "high", "chance", "verdict")),
    ]
