"""How deep the target stage was tuned: runs of one condition that differ in it are told apart.

A depth is named as by Tajbakhsh et al. 2016 (IEEE TMI 35(5)) after the layers that are tuned:
conv1-fc8 is the whole network, fc8 the last layer alone. A run that looked for its depth itself, on
validation data (`transfer.search`), is "searched", whatever it found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stagetransfer.names import LAYERS
from stagetransfer.runs.reader import Run, Unfinished

DEPTHS: tuple[str, ...] = (*(f"{layer}-fc8" for layer in LAYERS[:-1]), "fc8")
SEARCHED = "searched"

KNOBS = ("transfer.tune_from", "transfer.mode", "transfer.search")


def depth(run: Run) -> str | None:
    """By the lowest layer that the target stage tuned; None of a chain of one, from scratch."""
    if len(run.chain) == 1:
        return None
    if run.config.get("transfer.search"):
        return SEARCHED
    frozen = {str(name).rpartition(".")[0] for name in run.stages[-1].get("frozen", ())}
    return next((DEPTHS[i] for i, layer in enumerate(LAYERS) if layer not in frozen), DEPTHS[-1])


def tell_depths(
    runs: Sequence[Run], unfinished: Sequence[Unfinished]
) -> tuple[list[Run], list[Unfinished]]:
    """The same, where a condition has runs of several depths with the depth in its name:
    "natural conv4-fc8". A name from a config holds no space."""
    found: dict[str, set[str]] = defaultdict(set)
    of_runs = [depth(run) for run in runs]
    planned = [_planned(run.config) if run.place else None for run in unfinished]
    for of, deep in zip(runs, of_runs, strict=True):
        found[of.condition].add(deep or "")
    for other, deep in zip(unfinished, planned, strict=True):
        if other.place:
            found[other.place[0]].add(deep or "")

    def named(condition: str, deep: str | None) -> str:
        return f"{condition} {deep}" if deep and len(found[condition]) > 1 else condition

    return (
        [
            replace(run, condition=named(run.condition, deep))
            for run, deep in zip(runs, of_runs, strict=True)
        ],
        [
            replace(run, place=(named(run.place[0], deep), *run.place[1:])) if run.place else run
            for run, deep in zip(unfinished, planned, strict=True)
        ],
    )


def parted(condition: str) -> tuple[str, str | None]:
    """The config's condition, and the depth if `tell_depths` has put it into the name."""
    base, _, deep = condition.partition(" ")
    return base, deep or None


def knobs(target: str) -> tuple[str, ...]:
    """The keys of config.yaml that a depth stands for, in a chain that ends in `target`."""
    return (*KNOBS, *(f"stage.{target}.{knob}" for knob in KNOBS))


def _planned(config: Mapping[str, Any]) -> str | None:
    """Of a run that has no record yet."""
    chain: Sequence[str] = config.get("chain") or ()
    if len(chain) < 2:
        return None
    if config.get("transfer.search"):
        return SEARCHED
    mode, tune_from, anew = (
        config.get(f"stage.{chain[-1]}.transfer.{name}", config.get(f"transfer.{name}"))
        for name in ("mode", "tune_from", "reinitialise")
    )
    first = min(anew or ["fc7"], key=LAYERS.index) if mode == "frozen" else tune_from
    return DEPTHS[LAYERS.index(first or "conv1")]
