"""Earlier advice against finished runs: was the order of the candidates right?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from stagetransfer.advise.candidates import chain_name
from stagetransfer.advise.outcomes import left_out, outcomes, prior
from stagetransfer.errors import UserError
from stagetransfer.files import read_json
from stagetransfer.names import PUBLISHED
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.statistics import POINTS, Interval

FILE = "advice.json"
RESAMPLES = 10_000
FIGURES = ("tau", "lost", "near")


@dataclass(frozen=True)
class Judged:
    """An advice for a target that has finished runs."""

    target: str  # the fingerprint of its data
    truth: pd.Series  # mean macro recall on the test images, by candidate
    spread: float  # standard deviation over the seeds of the best candidate; NaN for one seed
    ranks: Mapping[str, pd.Series]  # by way to rank; a higher value promises a better result


def read_judged(folders: Sequence[Path]) -> tuple[list[Judged], list[str]]:
    """Return the advice that can be judged, and why other advice and some runs cannot.

    Advice and runs belong together if the target's images and the network are the same. The prior
    is the mean rank of a candidate on the other targets among the runs. UserError if a folder holds
    no advice or no run, or a file is damaged.
    """
    files = sorted({file for folder in folders for file in folder.glob(f"**/{FILE}")})
    if not files:
        raise UserError(f"{folders[0]}: no {FILE} in it. Give folders in which advise has written")
    finished, _ = read_runs(find_runs(folders))
    found, judged, lines = outcomes(finished), list[Judged](), left_out(finished)
    names = [chain_name([{"weights": one}]) for one in PUBLISHED]
    for file in files:
        advice = read_json(file)
        try:
            target, network, pick = (str(advice[key]) for key in ("target", "network", "pick"))
            given = pd.DataFrame(advice["candidates"]).set_index("candidate")
            recalls, scores = given["recall"], given[advice["scores"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file}: cannot be read ({error!r}). Remove it.") from error
        own = found[(found["target"] == target) & (found["network"] == network)]
        truth = own.groupby("candidate")["recall"].mean()
        truth = truth[[name for name in given.index if name in truth.index]]
        if len(truth) < 2:
            lines.append(f"{file}: fewer than two of its candidates have finished runs")
            continue
        if pick not in truth.index:
            lines.append(f"{file}: no finished run of the candidate that it recommends, {pick}")
            continue
        seeds = own.loc[own["candidate"] == truth.idxmax(), "recall"]
        published = pd.Series(truth.index.isin(names), truth.index)
        ranks = {
            "advice": pd.Series(given.index == pick, given.index) * 1.0 + recalls,
            "linear probe": recalls,
            "prior": prior(found, target),
            **({"always published weights": published * 1.0} if published.any() else {}),
            "at random": pd.Series(0.0, truth.index),
            **{name: scores[name] for name in scores},
        }
        judged.append(Judged(target, truth, float(seeds.std()), ranks))
    return judged, lines


def judgement(judged: Sequence[Judged]) -> pd.DataFrame:
    """Return one row per way to rank, with 95 % intervals over the targets, by bootstrap.

    The columns are tau (weighted Kendall), lost (points of macro recall that the pick lies behind
    the best candidate) and near (the share of targets on which the pick lies within one standard
    deviation over seeds of the best), each with `_low`, `_high` and `_why`, see `over_targets`. Of
    several advice for one target the mean counts, because they share its images and runs.
    """
    rows = []
    for one in judged:
        for name, ranks in one.ranks.items():
            tau, lost = agreement(one.truth, ranks)
            near = float(lost <= one.spread) if np.isfinite(one.spread) else np.nan
            rows.append((name, one.target, tau, POINTS.factor * lost, near))
    columns = ["ranked_by", "target", *FIGURES]
    frame = pd.DataFrame(rows, columns=pd.Index(columns))
    of_targets = frame.groupby(columns[:2], sort=False).mean().reset_index()
    table = []
    for way, own in of_targets.groupby("ranked_by", sort=False):
        row: dict[str, Any] = {"ranked_by": way, "targets": len(own)}
        for key in FIGURES:
            found = over_targets(own[key].dropna().tolist())
            row |= found.columns(key) | {f"{key}_why": found.why}
        table.append(row)
    return pd.DataFrame(table)


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


def over_targets(values: Sequence[float]) -> Interval:
    """Return the mean over targets and its 95 % bootstrap interval; NaN without values.

    One target, or equal values, do not show how targets differ: the ends are then NaN.
    """
    if not values:
        return Interval.undefined()
    found = replace(Interval.undefined(), estimate=float(np.mean(values)))
    if len({*values}) == 1:
        return replace(
            found, why="only one target" if len(values) == 1 else "no spread over targets"
        )
    draws = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975]).tolist()
    return replace(found, low=low, high=high)
