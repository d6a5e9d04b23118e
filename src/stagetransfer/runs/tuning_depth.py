"""The tuning depth of the target stage, which distinguishes runs of one condition.

A depth is named after the layers that are tuned, as by Tajbakhsh et al. 2016 (IEEE TMI 35(5)):
conv1-fc8 is the whole network, fc8 the last layer alone. A run that searched its own depth on
validation data (`transfer.search`) has the depth "searched", whichever it found.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from stagetransfer.names import LAYERS
from stagetransfer.runs.run import Run, UnfinishedRun

DEPTHS: tuple[str, ...] = (*(f"{layer}-fc8" for layer in LAYERS[:-1]), "fc8")
SEARCHED = "searched"

SETTINGS = ("transfer.tune_from", "transfer.mode", "transfer.search")


def tuned_depth(run: Run) -> str | None:
    """Return the depth, by the lowest layer that was tuned; None for training from scratch."""
    if len(run.chain) == 1:
        return None
    if run.config.get("transfer.search"):
        return SEARCHED
    frozen = {str(name).rpartition(".")[0] for name in run.stages[-1].get("frozen", ())}
    return next((DEPTHS[i] for i, layer in enumerate(LAYERS) if layer not in frozen), DEPTHS[-1])


def name_depths(
    runs: Sequence[Run], unfinished: Sequence[UnfinishedRun]
) -> tuple[list[Run], list[UnfinishedRun]]:
    """Return the same runs with the depth in the condition's name where there are several.

    Such a name is "natural conv4-fc8"; the name of a condition in a config holds no space.
    """
    finished = [(run.condition, tuned_depth(run)) for run in runs]
    planned = [(run.place[0] if run.place else "", _planned_depth(run)) for run in unfinished]
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


def _planned_depth(run: UnfinishedRun) -> str | None:
    """Return the depth that a run without a record will have, by its config alone."""
    config = run.config
    chain: Sequence[str] = config.get("chain") or ()
    if len(chain) < 2 or run.place is None:
        return None
    if config.get("transfer.search"):
        return SEARCHED
    mode, tune_from, reinitialised = (
        config.get(f"stage.{chain[-1]}.transfer.{name}", config.get(f"transfer.{name}"))
        for name in ("mode", "tune_from", "reinitialise")
    )
    first = min(reinitialised or ["fc7"], key=LAYERS.index) if mode == "frozen" else tune_from
    return DEPTHS[LAYERS.index(first or "conv1")]
