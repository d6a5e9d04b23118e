"""Which runs the report compares, which have no result, and how the intervals are computed."""

from collections.abc import Sequence
from itertools import product

from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Block, Bullets, Section, Table, Text, data_frame
from stagetransfer.reporting.limits import further_limits
from stagetransfer.runs.run import Replicate, UnfinishedRun
from stagetransfer.runs.study import Study

METHOD = (
    "All intervals are 95 % intervals from one bootstrap. Seeds and, within the test set, groups "
    "(patients) are resampled together; groups are stratified so that each class stays present. "
    "The width is corrected for small numbers of seeds and groups (documented in "
    "stagetransfer.statistics). All conditions share the {count} resamples, so conditions are "
    "compared in pairs. Before Holm's correction, a p-value is at most 0.05 exactly when its "
    "interval excludes zero. If the interval of a difference includes zero, the runs are no "
    "evidence of a difference, whichever mean is higher. Conditions are compared only if all runs "
    "concerned learned: the difference to a failed training says nothing about a condition."
)

NO_METHOD = (
    "No interval and no test is shown: the test images of each class are of a single patient, so "
    "the variance over patients is unknown. More patients are needed for any conclusion."
)

Place = tuple[str, float, Replicate]
"""Condition, ratio and seeds."""


def overview_section(study: Study, unfinished: Sequence[UnfinishedRun]) -> Section:
    """Return the runs, the warnings and the method of the intervals."""
    states = places_by_state(study, unfinished)
    runs = fmt.count(len(study.runs), "finished run")
    conditions = fmt.count(len(study.conditions), "condition")
    ratios = fmt.join(map(fmt.ratio, study.ratios))
    images, classes = f"{len(study.labels)} images", f"{len(study.classes)} classes"
    groups = f"{study.num_groups} groups (patients), {classes}."
    if study.groups is None:
        groups = (
            f"{classes}. The groups are unknown, so images are resampled as if each were from "
            "another patient. If they are not, the intervals are too narrow."
        )
    versions = fmt.join(f"{name} {x}" for name, x in sorted(study.runs[0].versions.items()))
    lines = [
        f"{runs} of {conditions}; r: {ratios}; seeds: {fmt.join(study.seeds)}.",
        *(f"{name}: {' → '.join(study.chains[name])}." for name in study.conditions),
        f"Test set: {images} of {groups}",
        source_seeds(study),
    ]
    if pairs := len(list(study.condition_pairs())):
        which = "asked for" if study.asked_for else "found here"
        lines.append(
            f"Holm's correction counts {fmt.count(pairs, 'pair')} of the conditions {which} "
            f"({fmt.join(study.asked)}), also those that cannot be compared."
        )
    lines.append(f"Software: {versions}.")
    problems = []
    for run in unfinished:
        replaced = _place(study, run) in states["finished"]
        other = " (replaced by another run that is finished)" if replaced else ""
        problems.append(f"{run.folder.name}: {run.reason}{other}")
    for condition, ratio, of in sorted(states["missing"]):
        problems.append(f"{condition}, r = {fmt.ratio(ratio)}, seed {of}: no run")
    for name in study.asked:
        if name not in study.conditions:
            text = "it was asked for, so its pairs count in Holm's correction"
            problems.append(f"{name}: no finished run; {text}")
    blocks: list[Block] = [Bullets(lines)]
    for title, warnings in (
        ("Not included in the results below, because there is no result:", problems),
        ("Further limits of the comparison:", further_limits(study)),
    ):
        if warnings:
            blocks += [Text(title, kind="warning"), Bullets(warnings, kind="problems")]
    blocks.append(Text(NO_METHOD if study.without_spread else METHOD.format(count=study.count)))
    return Section("Runs", blocks)


def places_by_state(study: Study, unfinished: Sequence[UnfinishedRun]) -> dict[str, set[Place]]:
    """Return where runs are finished, did not learn, are unfinished or failed, and are missing.

    Missing are the combinations of all conditions, ratios and seeds of which there is no run.
    """
    finished = {
        (run.condition, run.ratio, of): run
        for run, of in zip(study.runs, study.seeds_of(study.runs), strict=True)
    }
    states: dict[str, set[Place]] = {
        "finished": {*finished},
        "did not learn": {place for place, run in finished.items() if not run.learned},
        "unfinished": set(),
        "failed": set(),
    }
    for run in unfinished:
        place = _place(study, run)
        if place is not None and place not in finished:
            states["failed" if run.cause else "unfinished"].add(place)
    there = set[Place]().union(*states.values())
    conditions, ratios, seeds = (set(values) for values in zip(*there, strict=True))
    crossed = {of for of in seeds if of.source_seed is not None}
    with_source = {name for name, _, of in there if of in crossed}
    every = {
        (name, ratio, of)
        for name, ratio in product(conditions, ratios)
        for of in (crossed if name in with_source else {Replicate(of.seed) for of in seeds})
    }
    return states | {"missing": every - there}


def source_seeds(study: Study) -> str:
    """Return a sentence on whether the seed of the source stages was fixed."""
    runs = [run for run in study.runs if len(run.chain) > 1]
    seeds = {run.source_seed for run in runs}
    if not runs:
        return "No run has a source stage."
    if None in seeds:
        return "source_seed: not recorded in all runs."
    found = fmt.join(sorted(map(str, seeds)))
    if study.crossed:
        return (
            f"source_seed: varies independently of the seed ({found}). Seeds and source seeds are "
            "both resampled. The weight of a run is the number of times that its seed was drawn, "
            "multiplied by the number of times that its source seed was drawn. The intervals "
            "include the variance of source training. 1/0 is seed 1 with source seed 0."
        )
    follows = all(run.source_seed == run.seed for run in runs)
    if len(seeds) == 1 and follows:
        return f"source_seed: {found}, equal to the only seed."
    if len(seeds) == 1:
        return (
            f"source_seed: fixed at {found}. All seeds share one set of source stages, so the "
            "intervals do not include the variance of source training."
        )
    if follows:
        return (
            "source_seed: follows the seed. Each seed has its own source stages, so the "
            "intervals include the variance of source training."
        )
    return f"source_seed: mixed ({found}). Compare the conditions with care."


def _place(study: Study, run: UnfinishedRun) -> Place | None:
    """Return the place of a run without a result, if its config holds it."""
    if run.place is None:
        return None
    has_source = study.crossed and len(run.config.get("chain") or ()) > 1
    source_seed = run.config.get("source_seed") if has_source else None
    return *run.place[:2], Replicate(run.place[2], source_seed)


def runs_table(study: Study, unfinished: Sequence[UnfinishedRun]) -> Table:
    """Return the seeds of the runs of each condition and ratio, by their state."""
    states = places_by_state(study, unfinished)
    order = {name: i for i, name in enumerate(study.conditions)}
    places = {(c, r) for state in states.values() for c, r, _ in state}
    rows = []
    for place in sorted(places, key=lambda x: (order.get(x[0], len(order)), *x)):
        seeds = [sorted(s for c, r, s in of if (c, r) == place) for of in states.values()]
        rows.append([place[0], fmt.ratio(place[1]), *map(fmt.join, seeds)])
    note = (
        "Numbers are seeds. The results below use finished runs only. did not learn: finished runs "
        "with constant output, not above chance on validation and test images, or diverged; they "
        "are not compared. missing: no run has this condition, ratio and seed, but each of the "
        "three occurs in other runs."
    )
    columns = ["condition", "r", *states]
    return Table("runs", "Runs by seed", columns, rows, [note], data_frame(columns, rows), 2)
