"""Candidates in order of their probes, with intervals of the gain over random weights."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from stagetransfer import statistics as stats
from stagetransfer.advise.block_features import PROBABILITIES, Features
from stagetransfer.advise.candidates import RANDOM, Candidate
from stagetransfer.advise.probe import Divisions, probe, reduced
from stagetransfer.statistics import POINTS, Interval
from stagetransfer.statistics.metrics import Array
from stagetransfer.statistics.transferability import SCORES, leep

RATIOS = (0.2, 0.4, 0.6, 0.8, 1.0)
RESAMPLES = 1000


@dataclass(frozen=True)
class Ranked:
    """A candidate with its probe."""

    candidate: Candidate
    block: str  # the one whose features the linear probe does best on
    tune_from: str  # the first block after it, from which to tune
    recall: Interval  # macro recall of that probe
    gain: Interval  # its difference to the best probe of random weights
    behind: Interval  # the best candidate's recall minus this one's; 0 for the best one itself
    by_ratio: Mapping[float, float]  # macro recall of the probe at each ratio
    scores: Mapping[str, float]  # other scores of the features of `block`
    prior: float | None = None  # mean rank on other targets, from 0 (worst) to 1; None: unknown


@dataclass(frozen=True)
class Advice:
    """The candidates, best first, the recall of every block, and the answer."""

    ranking: Sequence[Ranked]
    blocks: pd.DataFrame  # candidate, block, recall
    pick: Ranked  # the candidate that the sentence names
    sentence: str
    chance: float

    def table(self) -> pd.DataFrame:
        """Return one row per candidate, best first, as for advice.csv."""
        return pd.DataFrame([_row(one) for one in self.ranking])

    def record(self) -> dict[str, Any]:
        """Return the content of advice.json, which `judge` compares with finished runs."""
        return {
            "pick": self.pick.candidate.name,
            "answer": self.sentence,
            "scores": list(self.pick.scores),
            "candidates": [_row(one) | {"words": [*one.candidate.words]} for one in self.ranking],
        }


def advise(
    candidates: Sequence[Candidate],
    features: Mapping[str, Sequence[Features]],
    divisions: Divisions,
    groups: Sequence[str] | None,
    priors: Mapping[str, float] | None = None,
    more: Mapping[str, Mapping[str, float]] | None = None,
) -> Advice:
    """Probe every block of every candidate, and rank the candidates.

    The order is that of the macro recall of the best block's linear probe with all images. Patients
    (images, if they are unknown) and the random divisions are resampled together; the networks of
    a candidate take part in turn.

    Args:
        features: by the candidate's name, one per network, see `block_features`.
        groups: the patients (N,) of the training images; None: unknown.
        priors: mean ranks on other targets by the candidate's name, see `outcomes.prior`.
        more: further scores: their names, and their values by the candidate's name.
    """
    labels, seeds = divisions.labels, len(divisions.folds)
    drawn = stats.resample(labels, groups, divisions.classes, seeds=1, count=RESAMPLES)
    drawn = stats.cross_seeds(drawn, np.arange(seeds))

    def recalls(features: Sequence[Array], ratio: float = 1.0, kind: str = "linear") -> Array:
        probabilities = probe(features, divisions, ratio, kind)
        return stats.resampled_metrics(drawn, probabilities, areas=False)["recall"]

    def of_block(name: str, block: str) -> Array:
        return recalls([reduced(of[block]) for of in features[name]])

    def of_best(one: Candidate) -> tuple[dict[float, float], dict[str, float]]:
        """Return the recall at each ratio, and the scores, of a candidate's best block."""
        block, values = best[one.name]
        found = features[one.name]
        kept = [reduced(of[block]) for of in found]
        curve = {ratio: float(recalls(kept, ratio)[0].mean()) for ratio in RATIOS[:-1]}
        curve[1.0] = float(values[0].mean())
        scores = {
            name: float(np.mean([score(of[block], labels) for of in found]))
            for name, score in SCORES.items()
        }
        scores["LEEP"] = float(np.mean([leep(of[PROBABILITIES], labels) for of in found]))
        scores["5 nearest neighbours"] = float(recalls(kept, 1.0, "neighbours")[0].mean())
        return curve, scores

    best: dict[str, tuple[str, Array]] = {}
    blocks_of = [(one.name, block) for one in candidates for block in one.blocks]
    # One candidate per core. The matrices are so small that several cores only wait for each other.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(of_block, *zip(*blocks_of, strict=True))
        values_of = dict(zip(blocks_of, found, strict=True))
        for (name, block), values in values_of.items():
            if name not in best or values[0].mean() > best[name][1][0].mean():
                best[name] = (block, values)
        order = sorted(candidates, key=lambda one: -float(best[one.name][1][0].mean()))
        measured = list(pool.map(of_best, order))
    first = best[order[0].name][1]
    ranking = []
    for one, (curve, scores) in zip(order, measured, strict=True):
        block, values = best[one.name]
        scores |= {name: of[one.name] for name, of in (more or {}).items() if of}
        gain = stats.difference(drawn, values, best[RANDOM][1])
        behind = stats.difference(drawn, first, values)
        recall = stats.interval(drawn, values).clipped()
        blocks = one.networks[0].blocks
        tune_from = blocks[blocks.index(block) + 1]
        rank = (priors or {}).get(one.name)
        ranking.append(Ranked(one, block, tune_from, recall, gain, behind, curve, scores, rank))
    of_blocks = [(*names, float(values[0].mean())) for names, values in values_of.items()]
    frame = pd.DataFrame(of_blocks, columns=pd.Index(["candidate", "block", "recall"]))
    chance = 1 / len(np.unique(labels))
    pick, sentence = answer(ranking)
    return Advice(ranking, frame, pick, sentence, chance)


def answer(ranking: Sequence[Ranked]) -> tuple[Ranked, str]:
    """Return the pick, and what to do in one or two sentences that claim no more than is known.

    Of candidates that do not differ detectably from the first, the pick is the one with the best
    rank on other targets, where all of them have one; otherwise the one with the fewest stages.
    """
    top = ranking[0]
    if top.candidate.name == RANDOM or not top.gain.low > 0:
        best = next((one for one in ranking if one.candidate.name != RANDOM), top)
        return best, (
            "No candidate is detectably better than random weights. The best probe is that of "
            f"{best.candidate.name} ({_points(best.gain)} of macro recall). Compare it with "
            "scratch by short trainings, or look for another source."
        )
    equal = [one for one in ranking[1:] if not one.behind.low > 0 and one.candidate.name != RANDOM]
    gain = f"its probe gains {_points(top.gain)} of macro recall over random weights"
    if not equal:
        text = f"Take {top.candidate.name} and tune from {top.tune_from}: {gain}, and is better"
        return top, f"{text} than every other candidate's."
    others = ", ".join(one.candidate.name for one in equal)
    differ = "do not differ" if len(equal) > 1 else "does not differ"
    text = f"{top.candidate.name} comes first ({gain}), but {others} {differ} detectably from it."
    ranks = {id(one): one.prior for one in (top, *equal) if one.prior is not None}
    if len(ranks) == 1 + len(equal):
        pick = max([top, *equal], key=lambda one: ranks[id(one)])
        why = "had the best mean rank on other targets"
    else:
        pick = min([top, *equal], key=lambda one: one.candidate.trained)
        why = "needs the fewest trained stages"
    if pick is top:
        return top, f"{text} So take {top.candidate.name} and tune from {top.tune_from}."
    return pick, f"{text} Of these, {pick.candidate.name} {why}: tune it from {pick.tune_from}."


def _points(found: Interval) -> str:
    scaled = [POINTS.factor * x for x in (found.estimate, found.low, found.high)]
    if not np.isfinite(scaled).all():
        return f"{scaled[0]:+.1f} points, without an interval: {found.why}"
    return f"{scaled[0]:+.1f} points, 95 % interval {scaled[1]:.1f} to {scaled[2]:.1f}"


def _row(one: Ranked) -> dict[str, Any]:
    return {
        "candidate": one.candidate.name,
        "stages_trained": one.candidate.trained,
        "best_block": one.block,
        "tune_from": one.tune_from,
        **one.recall.columns("recall"),
        **one.gain.columns("gain"),
        **one.behind.columns("behind"),
        **{f"recall_at_{ratio:g}": value for ratio, value in one.by_ratio.items()},
        "rank_on_other_targets": one.prior,
        **one.scores,
    }
