"""The tuning depth of the target stage, which distinguishes runs of one condition.

A depth is named after the blocks that are tuned, as by Tajbakhsh et al. 2016 (IEEE TMI 35(5)): the
first and the last of them, such as layer4-fc, or the head alone. A run that searched its own depth
on validation data (`transfer.search`) has the depth "searched", whichever it found.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stagetransfer.runs.run import Run, UnfinishedRun

SEARCHED = "searched"

WHOLE = "all"  # the depth of a planned run that tunes everything, if its blocks are not known

NETWORK = ("model.library", "model.name", "model.variant")
SETTINGS = ("transfer.tune_from", "transfer.mode", "transfer.search")


def depth_names(blocks: Iterable[str]) -> list[str]:
    """Return the name of each tuning depth, from the whole network to the head alone."""
    *others, head = [*blocks] or [WHOLE]
    return [*(f"{block}-{head}" for block in others), head]


def tuned_depth(run: Run) -> str | None:
    """Return the depth, by the lowest block that was tuned; None for training from scratch."""
    if len(run.chain) == 1:
        return None
    if _setting(run.config, "search"):
        return SEARCHED
    frozen = {*run.stages[-1].get("frozen", ())}
    depths = depth_names(run.blocks)
    tuned = (not frozen.issuperset(names) for names in run.blocks.values())
    return next((depth for depth, own in zip(depths, tuned, strict=False) if own), depths[-1])


def name_depths(
    runs: Sequence[Run], unfinished: Sequence[UnfinishedRun]
) -> tuple[list[Run], list[UnfinishedRun]]:
    """Return the same runs with the depth in the condition's name where there are several.

    Such a name is "natural layer4-fc"; the name of a condition in a config holds no space.
    """
    finished = [(run.condition, tuned_depth(run)) for run in runs]
    planned = [(run.place[0] if run.place else "", _planned(run, runs)) for run in unfinished]
    found: dict[str, set[str | None]] = defaultdict(set)
    for condition, depth in (*finished, *planned):
        found[condition].add(depth)

    def named(condition: str, depth: str | None) -> str:
        return f"{condition} {depth}" if depth and len(found[condition]) > 1 else condition

    renamed = [replace(run, condition=named(*of)) for run, of in zip(runs, finished, strict=True)]
    return renamed, [
        replace(run, place=(named(*of), *run.place[1:])) if run.place else run
        for run, of in zip(unfinished, planned, strict=True)
    ]


def split_depth(condition: str) -> tuple[str, str | None]:
    """Return the condition of the config, and the depth if `name_depths` has added it."""
    base, _, depth = condition.partition(" ")
    return base, depth or None


def depth_settings(*targets: str) -> list[str]:
    """Return the keys of config.yaml that decide the depth in chains that end in these stages."""
    return [*SETTINGS, *(f"stage.{target}.{key}" for target in targets for key in SETTINGS)]


def _planned(run: UnfinishedRun, finished: Sequence[Run]) -> str | None:
    """Return the depth that a run without a record will have, by its config.

    Its blocks are those of a finished run with the same network.
    """
    config = run.config
    chain: Sequence[str] = config.get("chain") or ()
    if len(chain) < 2 or run.place is None:
        return None
    if _setting(config, "search"):
        return SEARCHED
    alike = [one for one in finished if all(one.config.get(k) == config.get(k) for k in NETWORK)]
    blocks = next((list(one.blocks) for one in alike if one.blocks), [])
    classifiers = (one.stages[-1].get("blocks", {}).get("reinitialised") for one in alike)
    mode, tune_from, new = (
        _setting(config, name) for name in ("mode", "tune_from", "reinitialise")
    )
    head = blocks[-1] if blocks else ""
    if mode == "frozen":
        new = next(filter(None, classifiers), [head]) if new is None else new
        named = [head if one == "head" else one for one in new]
        tune_from = min((one for one in named if one in blocks), key=blocks.index, default="")
    elif tune_from == "head":
        tune_from = head
    names = depth_names(blocks)
    if not tune_from:
        return names[0]
    return names[blocks.index(tune_from)] if tune_from in blocks else str(tune_from)


def _setting(config: Mapping[str, Any], name: str) -> Any:
    """Return a setting of the transfer to the target: that of its own stage, or of all stages."""
    target = config["chain"][-1]
    return config.get(f"stage.{target}.transfer.{name}", config.get(f"transfer.{name}"))
