"""The source stages beside their conditions: what each reached on validation data, and chance."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stagetransfer.reporting import formatting as fmt
from stagetransfer.reporting.blocks import Table, data_frame
from stagetransfer.runs.run import Run
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


class Source(NamedTuple):
    """One source stage of a condition: its entry of metrics.json, and the runs that used it."""

    condition: str
    stage: str  # position and domain, such as "1-natural"
    entry: Mapping[str, Any]
    users: list[Run]
    reused: int  # in how many of them it came from the store

    @property
    def health(self) -> Mapping[str, Any]:
        """What the stage recorded about its training; empty if it did not."""
        return self.entry.get("health") or {}


def find_sources(study: Study) -> list[Source]:
    """Return the source stages by condition and place in the chain, each distinct key once."""
    found: dict[tuple[str, str, str], Source] = {}
    for run in (part for pooled in study.runs for part in pooled.parts):
        condition = run.condition
        for number, entry in enumerate(run.stages[:-1], 1):
            stage = f"{number}-{entry['name']}"
            key = condition, stage, str(entry["key"])
            before = found.get(key, Source(condition, stage, entry, [], 0))
            reused = before.reused + bool(entry["reused"])
            found[key] = before._replace(users=[*before.users, run], reused=reused)
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
    title = "Sources: what each source stage reached on validation data"
    return [Table("sources", title, columns, rows, [NOTE], left=2, data=data)] if rows else []


def _cells(sources: Sequence[Source]) -> list[str]:
    records = [source.entry.get("validation") or {} for source in sources]
    accuracies = [float(x["accuracy"]) for x in records if x.get("accuracy") is not None]
    recalls = [float(x["recall"]) for x in records if x.get("recall") is not None]
    healths = [source.health for source in sources if source.health]
    learned = sum(bool(health["learned"]) for health in healths)
    if any(source.entry.get("weights") for source in sources):
        first = [NOT_RECORDED] * 3 + ["published weights"]
    else:
        recall = _mean_and_range(recalls)
        if len(sources) == len(healths) == 1:
            recall = fmt.mean(*(healths[0][name] for name in ("recall", "low", "high")))
        verdict = fmt.join(sorted({health["verdict"] for health in healths}))
        counted = verdict if len(healths) == 1 else f"{learned} of {len(healths)}\n{verdict}"
        all_learned = len(healths) == len(sources) == learned
        chances = sorted({fmt.number(health["chance"]) for health in healths})
        first = [
            _mean_and_range(accuracies),
            recall,
            fmt.join(chances) if chances else NOT_RECORDED,
            "yes" if all_learned else counted if healths else NOT_RECORDED,
        ]
    runs = [run for source in sources for run in source.users]
    seeds = fmt.join(sorted({run.source_seed for run in runs if run.source_seed is not None}))
    reused = sum(source.reused for source in sources)
    return [*first, str(len(sources)), seeds, f"{reused} of {fmt.count(len(runs), 'run')}"]


def _mean_and_range(values: Sequence[float]) -> str:
    """Return one value, or the mean of several with their range on a second line."""
    if len(values) < 2:
        return fmt.number(values[0]) if values else NOT_RECORDED
    ends = f"{fmt.number(min(values))} to {fmt.number(max(values))}"
    return f"{fmt.number(float(np.mean(values)))}\n{ends}"


def _record(source: Source) -> list[object]:
    """Return a row of `COLUMNS`; empty where the stage has no record."""
    health, validation = source.health, source.entry.get("validation") or {}
    seeds = sorted({run.source_seed for run in source.users if run.source_seed is not None})
    return [
        *(source.condition, source.stage, source.entry["key"], " ".join(map(str, seeds))),
        *(len(source.users), source.reused, source.entry.get("weights")),
        *(validation.get("accuracy"), health.get("recall", validation.get("recall"))),
        *(health.get(name) for name in ("low", "high", "chance", "verdict")),
    ]
