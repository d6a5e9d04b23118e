"""Earlier advice against finished runs: was the order of the candidates right?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from stagetransfer.advise.candidates import RANDOM
from stagetransfer.advise.outcomes import left_out, outcomes, prior
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.statistics import POINTS

FILE = "advice.json"
RESAMPLES = 10_000


@dataclass(frozen=True)
class Judged:
    """A target for which advice and finished runs exist."""

    truth: pd.Series  # mean macro recall on the test images, by candidate
    spread: float  # standard deviation over the seeds of the best candidate; NaN for one seed
    ranks: Mapping[str, pd.Series]  # by way to rank; a higher value promises a better result


def read_judged(folders: Sequence[Path]) -> tuple[list[Judged], list[str]]:
    """Return the targets that can be judged, and why other advice and some runs cannot.

    Advice and runs belong together if the target's images and the network are the same. The prior
    is the mean rank of a candidate on the other targets among the runs. UserError if a folder holds
    no advice or no run, or a file is damaged.
    """
    files = sorted({file for folder in folders for file in folder.glob(f"**/{FILE}")})
    if not files:
        raise UserError(f"{folders[0]}: no {FILE} in it. Give folders in which advise has written")
    finished, _ = read_runs(find_runs(folders))
    found, judged, lines = outcomes(finished), list[Judged](), left_out(finished)
    for file in files:
        advice = read_json(file)
        try:
            target, network, pick = advice["target"], advice["network"], advice["pick"]
            given = pd.DataFrame(advice["candidates"]).set_index("candidate")
            recalls, scores = given["recall"], given[advice["scores"]]
            published = (given["stages_trained"] == 0) & (given.index != RANDOM)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file}: cannot be read ({error!r}). Remove it.") from error
        own = found[(found["target"] == target) & (found["network"] == network)]
        truth = own.groupby("candidate")["recall"].mean()
        truth = truth[[name for name in given.index if name in truth.index]]
        if len(truth) < 2:
            lines.append(f"{file}: finished runs of fewer than two of its candidates")
            continue
        seeds = own.loc[own["candidate"] == truth.idxmax(), "recall"]
        published = published[truth.index].astype(float)
        ranks = {
            "advice": pd.Series(given.index == pick, given.index) * 1.0 + recalls,
            "linear probe": recalls,
            "prior": prior(found, target),
            **({"always published weights": published} if published.any() else {}),
            "at random": pd.Series(0.0, truth.index),
            **{name: scores[name] for name in scores},
        }
        judged.append(Judged(truth, float(seeds.std()), ranks))
    return judged, lines


def judgement(judged: Sequence[Judged]) -> pd.DataFrame:
    """Return one row per way to rank, with 95 % intervals over the targets, by bootstrap.

    The columns are tau (weighted Kendall), lost (points of macro recall that the pick lies behind
    the best candidate) and near (the share of targets on which the pick lies within one standard
    deviation over seeds of the best), each with `_low` and `_high`.
    """
    rows = []
    for name in dict.fromkeys(name for one in judged for name in one.ranks):
        of = [(one, agreement(one.truth, one.ranks[name])) for one in judged if name in one.ranks]
        values: dict[str, list[float]] = {
            "tau": [tau for _, (tau, _) in of],
            "lost": [POINTS.factor * lost for _, (_, lost) in of],
            "near": [float(lost <= one.spread) for one, (_, lost) in of if np.isfinite(one.spread)],
        }
        row: dict[str, Any] = {"ranked_by": name, "targets": len(of)}
        for key, single in values.items():
            numbers = over_targets([value for value in single if np.isfinite(value)])
            row |= dict(zip((key, f"{key}_low", f"{key}_high"), numbers, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def agreement(truth: pd.Series, ranks: pd.Series) -> tuple[float, float]:
    """Return how well values rank candidates: weighted Kendall tau, and what their pick loses.

    Candidates without a value are left out of tau. Of equal first values the mean is lost. Tau is
    NaN if the values do not distinguish the candidates, or there are fewer than two.
    """
    both = pd.DataFrame({"truth": truth, "rank": ranks.reindex(truth.index)}).dropna()
    first = both.loc[both["rank"] == both["rank"].max(), "truth"]
    lost = float(truth.max() - first.mean())
    if both["rank"].nunique() < 2 or both["truth"].nunique() < 2:
        return float("nan"), lost
    return float(stats.weightedtau(both["truth"], both["rank"]).statistic), lost


def over_targets(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over targets and its 95 % bootstrap interval; NaN without values."""
    if not values:
        return (float("nan"),) * 3
    draws = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(np.mean(values)), float(low), float(high)
