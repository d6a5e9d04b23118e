"""Ensembles: the mean of the conditions' calibrated probabilities, and its gain over the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from stagetransfer.errors import UserError
from stagetransfer.runs.predictions import Predictions, read_predictions
from stagetransfer.runs.run import LEARNED, Run
from stagetransfer.runs.study import Pair, Study
from stagetransfer.statistics import Interval, apply_temperature, fit_temperature
from stagetransfer.statistics.metrics import image_losses

NAME = "the ensemble"  # with a space, which no condition has


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
            parts = [(_validated(part), temperature(part)) for part in run.parts]
            of_parts = [
                image_losses(of.labels, apply_temperature(of.probabilities, t)) for of, t in parts
            ]
            losses.setdefault(run.condition, []).append(float(np.concatenate(of_parts).mean()))
    return min(losses, key=lambda name: float(np.mean(losses[name])))


def temperature(run: Run) -> float:
    """Return the temperature fitted to the validation images of a run (Guo et al. 2017)."""
    of = _validated(run)
    return fit_temperature(of.labels, np.log(np.clip(of.probabilities, 1e-300, None)))


def _validated(run: Run) -> Predictions:
    file = run.folder / "validation.csv"
    if run.config.get("imported") and not file.is_file():
        raise UserError(
            f"{run.name}: imported without predictions on validation images. Import it with "
            "--validation, or leave it out with --conditions"
        )
    return read_predictions(file, run.classes, run.num_validation)


def calibrated(run: Run) -> Run:
    """Return the run with its probabilities at its own temperature; predictions do not change."""
    # A pooled run has the images of its folds, one fold after the other.
    scaled = [apply_temperature(part.probabilities, temperature(part)) for part in run.parts]
    return replace(run, probabilities=np.concatenate(scaled), folds=())


def _mean(members: Sequence[Run]) -> Run:
    first = members[0]
    places = {name: i for i, name in enumerate(first.ids)}
    total = np.zeros_like(first.probabilities)
    for run in members:
        total[[places[name] for name in run.ids]] += run.probabilities
    folder = first.folder.with_name(f"ensemble-r{first.ratio:g}-s{first.seed}")
    mean = total / len(members)
    return replace(first, folder=folder, condition=NAME, probabilities=mean, verdict=LEARNED)


FIGURES = ("accuracy", "recall", "cross_entropy")


@dataclass(frozen=True)
class EnsembleGain:
    """The ensemble at one ratio against the condition that is best on validation images."""

    ratio: float
    members: list[str]  # the conditions that are averaged
    pair: Pair  # ensemble - best, in FIGURES
    single: Mapping[str, Interval]  # of FIGURES, those of the best condition
    both: Mapping[str, Interval]  # the same of the ensemble


@dataclass(frozen=True)
class EnsembleStudy:
    """Ensembles of finished runs, what they gain, and why some seeds or ratios have none."""

    made: Sequence[Run]
    gains: Sequence[EnsembleGain]
    left_out: Sequence[str]
    too_few: str  # as `Study.too_few`

    def table(self) -> pd.DataFrame:
        """Return one row per ratio and figure."""
        columns = ["ratio", "figure", "best", "best_value", "ensemble_value"]
        columns += ["difference", "low", "high", "p", "seeds"]
        rows = []
        for gain in self.gains:
            for name, gap in gain.pair.metrics.items():
                values = gain.single[name].estimate, gain.both[name].estimate
                numbers = gap.estimate, gap.low, gap.high, gap.p_value, gap.seeds
                rows.append((gain.ratio, name, gain.pair.b, *values, *numbers))
        return pd.DataFrame(rows, columns=pd.Index(columns))


def ensemble_study(runs: Sequence[Run], count: int) -> EnsembleStudy:
    """Average the calibrated probabilities of all conditions at each ratio and seed.

    `runs` have predictions on validation images; `count` is the number of bootstrap resamples.
    """
    singles = [calibrated(run) for run in runs]
    made, left_out = ensembles(singles)
    if not made:
        return EnsembleStudy((), (), left_out, "")
    # All figures are of the seeds that have an ensemble.
    places = {(run.ratio, run.seed) for run in made}
    singles = [run for run in singles if (run.ratio, run.seed) in places]
    study, gains = Study([*singles, *made], count), []
    for ratio in sorted({run.ratio for run in made}):
        best = best_condition([run for run in runs if (run.ratio, run.seed) in places], ratio)
        pair = study.pair(NAME, best, ratio, FIGURES)
        single, both = (
            {figure: study.interval(name, ratio, figure) for figure in FIGURES}
            for name in (best, NAME)
        )
        members = [name for name in study.conditions if name != NAME and study.at(name, ratio)]
        gains.append(EnsembleGain(ratio, members, pair, single, both))
    return EnsembleStudy(made, gains, left_out, study.too_few)
