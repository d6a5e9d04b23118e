"""Ensembles of finished runs: the mean of their calibrated probabilities, at no training cost."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stagetransfer.runs.predictions import read_predictions
from stagetransfer.runs.run import LEARNED, Run
from stagetransfer.statistics import apply_temperature, fit_temperature
from stagetransfer.statistics.metrics import Array, Integers, image_losses

NAME = "ensemble"


def ensembles(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Return one run per ratio and seed that averages all conditions, and why some have none.

    Its probabilities are the mean of the members'; give `calibrated` runs, so that none of them has
    more weight by overconfidence. A seed takes part if every condition has one run that learned.
    """
    found, lines = list[Run](), list[str]()
    for ratio in sorted({run.ratio for run in runs}):
        at = [run for run in runs if run.ratio == ratio]
        conditions = list(dict.fromkeys(run.condition for run in at))
        if len(conditions) < 2:
            lines.append(f"r = {ratio:g}: only {conditions[0]}, so there is nothing to average")
            continue
        for seed in sorted({run.seed for run in at}):
            of_seed = [run for run in at if run.seed == seed and run.learned]
            if sorted(run.condition for run in of_seed) == sorted(conditions):
                found.append(_mean(of_seed))
            else:
                text = "not every condition has exactly one run that learned"
                lines.append(f"r = {ratio:g}, seed {seed}: left out, {text}")
    return found, lines


def best_condition(runs: Sequence[Run], ratio: float) -> str:
    """Return the condition with the lowest calibrated cross-entropy on validation images."""
    losses: dict[str, list[float]] = {}
    for run in runs:
        if run.ratio == ratio and run.learned:
            labels, probabilities = _validated(run)
            losses.setdefault(run.condition, []).append(image_losses(labels, probabilities).mean())
    return min(losses, key=lambda name: float(np.mean(losses[name])))


def temperature(run: Run) -> float:
    """Return the temperature fitted to the validation images of a run (Guo et al. 2017)."""
    _, _, labels, probabilities = read_predictions(run.folder / "validation.csv", run.classes)
    return fit_temperature(labels, np.log(np.clip(probabilities, 1e-300, None)))


def _validated(run: Run) -> tuple[Integers, Array]:
    parts = [
        (labels, apply_temperature(probabilities, temperature(part)))
        for part in run.parts
        for _, _, labels, probabilities in [
            read_predictions(part.folder / "validation.csv", part.classes)
        ]
    ]
    labels, probabilities = zip(*parts, strict=True)
    return np.concatenate(labels), np.concatenate(probabilities)


def calibrated(run: Run) -> Run:
    """Return the run with its probabilities at its own temperature; predictions do not change."""
    places = {name: i for i, name in enumerate(run.ids)}
    scaled = np.empty_like(run.probabilities)
    for part in run.parts:
        rows = [places[name] for name in part.ids]
        scaled[rows] = apply_temperature(part.probabilities, temperature(part))
    return replace(run, probabilities=scaled, folds=())


def _mean(members: Sequence[Run]) -> Run:
    first = members[0]
    places = {name: i for i, name in enumerate(first.ids)}
    total = np.zeros_like(first.probabilities)
    for run in members:
        total[[places[name] for name in run.ids]] += run.probabilities
    folder = first.folder.with_name(f"{NAME}-r{first.ratio:g}-s{first.seed}")
    mean = total / len(members)
    return replace(first, folder=folder, condition=NAME, probabilities=mean, verdict=LEARNED)
