"""What the ensemble of all conditions gains over the best of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from stagetransfer.runs.ensembles import NAME, best_condition, calibrated, ensembles
from stagetransfer.runs.run import Run
from stagetransfer.runs.study import Study
from stagetransfer.statistics import Interval

FIGURES = ("accuracy", "recall", "cross_entropy")


@dataclass(frozen=True)
class EnsembleGain:
    """The ensemble at one ratio against the condition that is best on validation images.

    Attributes:
        members: the conditions that are averaged.
        single, both: of FIGURES, those of the best condition and of the ensemble.
        gaps: ensemble - best, paired by seed and patient.
        refusal: why they are not compared; empty if they are.
    """

    ratio: float
    members: tuple[str, ...]
    best: str
    single: Mapping[str, Interval]
    both: Mapping[str, Interval]
    gaps: Mapping[str, Interval]
    refusal: str


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
            for name in FIGURES:
                gap = gain.gaps[name]
                values = gain.single[name].estimate, gain.both[name].estimate
                numbers = gap.estimate, gap.low, gap.high, gap.p_value, gap.seeds
                rows.append((gain.ratio, name, gain.best, *values, *numbers))
        return pd.DataFrame(rows, columns=pd.Index(columns))


def ensemble_study(runs: Sequence[Run], count: int) -> EnsembleStudy:
    """Average the calibrated probabilities of all conditions at each ratio and seed.

    Args:
        runs: with predictions on validation images.
        count: the number of bootstrap resamples.
    """
    singles = [calibrated(run) for run in runs]
    made, left_out = ensembles(singles)
    if not made:
        return EnsembleStudy((), (), left_out, "")
    study, gains = Study([*singles, *made], count), []
    for ratio in sorted({run.ratio for run in made}):
        best = best_condition(runs, ratio)
        pair = study.pair(NAME, best, ratio, FIGURES)
        single, both = (
            {figure: study.interval(name, ratio, figure) for figure in FIGURES}
            for name in (best, NAME)
        )
        members = [name for name in study.conditions if name != NAME and study.at(name, ratio)]
        gains.append(
            EnsembleGain(ratio, tuple(members), best, single, both, pair.metrics, pair.refusal)
        )
    return EnsembleStudy(made, gains, left_out, study.too_few)
