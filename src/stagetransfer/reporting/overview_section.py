"""Which runs the report compares, which have no result, and how the intervals are computed."""

from collections.abc import Sequence
from itertools import product

from stagetransfer.reporting import formatting as fmt
from stagetransfer.reporting.blocks import Block, Bullets, Section, Table, Text
from stagetransfer.runs.comparability import differences
from stagetransfer.runs.run import UnfinishedRun
from stagetransfer.runs.study import Study

METHOD = (
    "All intervals are 95 % intervals from one bootstrap. Seeds and, within the test set, groups "
    "(patients) are resampled together; groups are stratified so that each class stays present. "
    "The width is corrected for small numbers of seeds and groups (documented in "
    "stagetransfer.statistics). All conditions share the {count} resamples, so conditions are "
    "compared in pairs. A p-value is at most 0.05 exactly when its interval excludes zero. If the "
    "interval of a difference includes zero, the runs are no evidence of a difference, whichever "
    "mean is higher."
)


def overview_section(study: Study, unfinished: Sequence[UnfinishedRun]) -> Section:
    """Return the runs, the warnings about them and the method of the intervals."""
    finished = {run.place for run in study.runs}
    runs = fmt.count(len(study.runs), "finished run")
    conditions = fmt.count(len(study.conditions), "condition")
    ratios = fmt.join(map(fmt.ratio, study.ratios))
    versions = fmt.join(f"{name} {x}" for name, x in sorted(study.runs[0].versions.items()))
    lines = [
        f"{runs} of {conditions}; r: {ratios}; seeds: {fmt.join(study.seeds)}.",
        *(f"{name}: {' → '.join(study.chains[name])}." for name in study.conditions),
        *(_test_set(study), source_seeds(study), f"Software: {versions}."),
    ]
    replaced = " (replaced by another run that is finished)"
    problems = [
        *(f"{x.folder.name}: {x.reason}{replaced * (x.place in finished)}" for x in unfinished),
        *(f"{c}, r = {fmt.ratio(r)}, seed {s}: no run" for c, r, s in missing(study, unfinished)),
    ]
    blocks: list[Block] = [Bullets(lines)]
    for title, warnings in (
        ("Not included in the results below, because there is no result:", problems),
        ("Limits of the comparison:", unlike_conditions(study)),
    ):
        if warnings:
            blocks += [Text(title, kind="warning"), Bullets(warnings, kind="problems")]
    blocks += [_runs_table(study, unfinished), Text(METHOD.format(count=study.count))]
    return Section("Runs", blocks)


def missing(study: Study, unfinished: Sequence[UnfinishedRun]) -> list[tuple[str, float, int]]:
    """Return the combinations of all conditions, ratios and seeds of which there is no run."""
    there = {run.place for run in study.runs} | {run.place for run in unfinished if run.place}
    every = product(*(sorted(set(values)) for values in zip(*there, strict=True)))
    return sorted({*every} - there)


def source_seeds(study: Study) -> str:
    """Return a sentence on whether the seed of the source stages was fixed."""
    runs = [run for run in study.runs if len(run.chain) > 1]
    if not runs:
        return "No run has a source stage."
    seeds = {run.source_seed for run in runs}
    if None in seeds:
        return "source_seed: not recorded in all runs."
    found = fmt.join(sorted(map(str, seeds)))
    match len(seeds) == 1, all(run.source_seed == run.seed for run in runs):
        case True, True:
            return f"source_seed: {found}, equal to the only seed."
        case True, False:
            return (
                f"source_seed: fixed at {found}. All seeds share one set of source stages, so the "
                "intervals do not include the variance of source training."
            )
        case False, True:
            return "source_seed: follows the seed. Each seed has its own source stages."
    return f"source_seed: mixed ({found}). Compare the conditions with care."


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


def _runs_table(study: Study, unfinished: Sequence[UnfinishedRun]) -> Table:
    finished = {run.place for run in study.runs}
    failed = {run.place for run in unfinished if run.place and run.cause} - finished
    waiting = {run.place for run in unfinished if run.place and not run.cause} - finished
    states = (finished, waiting, failed, set(missing(study, unfinished)))
    order = {name: i for i, name in enumerate(study.conditions)}
    places = {(c, r) for state in states for c, r, _ in state}
    rows = []
    for place in sorted(places, key=lambda x: (order.get(x[0], len(order)), *x)):
        seeds = [sorted(s for c, r, s in state if (c, r) == place) for state in states]
        rows.append([place[0], fmt.ratio(place[1]), *map(fmt.join, seeds)])
    note = (
        "Numbers are seeds. The results below use finished runs only. missing: no run has this "
        "condition, ratio and seed, but each of the three occurs in other runs."
    )
    columns = ["condition", "r", "finished", "unfinished", "failed", "missing"]
    return Table("runs", "Runs by seed", columns, rows, [note], left=2)


def _test_set(study: Study) -> str:
    images, classes = f"{len(study.labels)} images", f"{len(study.classes)} classes"
    if study.groups is None:
        return (
            f"Test set: {images} of {classes}. The groups are unknown, so images are resampled as "
            "if each were from another patient. If they are not, the intervals are too narrow."
        )
    return f"Test set: {images} of {study.num_groups} groups (patients), {classes}."
